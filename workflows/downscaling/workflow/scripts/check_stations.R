# The stations of all months, looked at before anything long begins.
for (file in snakemake@input[["lib"]]) source(file)

open_log(snakemake@log[[1]])
zone <- grid_frame(snakemake@input[["coarse"]])
months <- paste0("t", unlist(snakemake@params[["months"]]))
found <- lapply(months, function(month) read_stations(snakemake@input[["stations"]], month, zone)[[month]])
write_table(data.frame(
  month = months, stations = lengths(found), lowest_C = vapply(found, min, 0), highest_C = vapply(found, max, 0)
), snakemake@output[["checked"]])
