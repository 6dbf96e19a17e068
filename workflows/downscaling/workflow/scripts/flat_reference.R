# Radiation of a month on flat open ground, at six heights over the relief's range:
# what a slope is compared with. The air is thinner above, so height matters.
# With a latitude for each row of tiles, there is a table for each, one after the other.
for (file in snakemake@input[["lib"]]) source(file)

log <- open_log(snakemake@log[[1]])
out <- snakemake@output[["flat"]]
month <- as.integer(snakemake@wildcards[["month"]])
range <- unlist(read.table(snakemake@input[["summary"]], header = TRUE, sep = "\t")[c("lowest", "highest")])
heights <- seq(100 * floor(range[1] / 100), 100 * (floor(range[2] / 100) + 1), length.out = 6)
site <- snakemake@params[["site"]]
table <- snakemake@input[["latitudes"]]

scratch <- scratch_folder(out)
at_height <- function(height, latitude) {
  name <- function(what) file.path(scratch, paste0(what, ".sgrd"))
  write_grid(grid(matrix(height, 3, 3), d = 100), name("dem"), unit = "m")
  sun_of_month(name("dem"), NULL, name("direct"), name("diffuse"), snakemake@params[["year"]], month,
               c(latitude = latitude, site), log)
  middle <- function(what) read_grid(name(what))$z[2, 2]
  data.frame(height_m = height, direct = middle("direct"), diffuse = middle("diffuse"))
}
at_latitude <- function(latitude) do.call(rbind, lapply(heights, at_height, latitude = latitude))
if (length(table)) {
  rows <- read.table(table, header = TRUE, sep = "\t")
  flat <- do.call(rbind, Map(function(row, latitude) cbind(row = row, at_latitude(latitude)), rows$row, rows$latitude))
} else {
  flat <- at_latitude(snakemake@params[["latitude"]])
}
if (any(flat$direct <= 0)) stop("no direct light on flat ground in month ", month, ": a polar night has no quotient")
write_table(flat, out)
