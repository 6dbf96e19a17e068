# A page of maps: one column per month; of each month one map, or the climate's and the downscaled one.
for (file in snakemake@input[["lib"]]) source(file)

open_log(snakemake@log[[1]])
params <- snakemake@params
style <- STYLES[[snakemake@wildcards[["map"]]]]
width <- params[["width"]]
height <- round(1.5 * width)
files_of <- function(name) grep("\\.sdat$", unlist(snakemake@input[[name]]), value = TRUE)
thinned <- function(paths) lapply(paths, read_thinned, width, height)
dem <- thinned(files_of("dem"))[[1]]
rows <- lapply(list(files_of("coarse"), files_of("fine")), thinned)
rows <- rows[lengths(rows) > 0]
if (snakemake@wildcards[["map"]] == "sun_effect") {
  sun_effect <- function(q) {
    # The formula without its part of height.
    q$z <- downscaled_temperature(0, 0, 0, 0, q$z, params[["sun_coefficient"]], params[["leaf_area_ratio"]])
    q
  }
  rows <- lapply(rows, lapply, sun_effect)
}
cells <- vapply(rows, function(row) cell_name(row[[1]]$d / row[[1]]$step), "")
map_page(snakemake@output[["map"]], rows, dem, style, month.name[params[["months"]]], width, height, cells)
