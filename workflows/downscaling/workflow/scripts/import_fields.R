# One month's fields of the user's own, checked and brought to the workflow's kilometre grid.
for (file in snakemake@input[["lib"]]) source(file)

open_log(snakemake@log[[1]])
input <- snakemake@input
out <- snakemake@output
params <- snakemake@params
coarse <- read_grid(input[["coarse"]])

plan <- list(
  list(input = "temperature", key = "temperature", unit = params[["temperature_unit"]], limits = c(-60, 60), name = "C"),
  list(input = "elevation", key = "temperature_elevation", unit = "m", limits = c(-500, 9000), name = "m"),
  list(input = "cloud_cover", key = "cloud_cover", unit = params[["cloud_unit"]], limits = c(0, 1), name = "",
       least = 0.05) # fractions that are read as percent are within the limits
)
plan <- Filter(function(step) length(input[[step$input]]) && length(out[[step$input]]), plan)
# All are checked before any is written.
fields <- lapply(plan, function(step) {
  path <- input[[step$input]]
  field <- import_field(path, step$key, coarse, params[["crs"]])
  convert_field(field, path, step$key, step$unit, step$limits, step$name, step$least)
})
for (i in seq_along(plan)) write_grid(fields[[i]], out[[plan[[i]]$input]], unit = plan[[i]]$name)
write_table(data.frame(
  field = vapply(plan, function(step) step$key, ""), lowest = vapply(fields, function(f) min(f$z), 0),
  highest = vapply(fields, function(f) max(f$z), 0)
), out[["checked"]])
