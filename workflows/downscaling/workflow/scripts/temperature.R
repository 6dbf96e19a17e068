# Downscaled temperature (C) of one tile and month, with the radiation below clouds
# (kWh/m2) and the quotient that carries the relief's effect.
for (file in snakemake@input[["lib"]]) source(file)

open_log(snakemake@log[[1]])
input <- snakemake@input
params <- snakemake@params
dem <- read_grid(input[["dem"]])
tile <- tile_cells(snakemake@wildcards[["tile"]], dim(dem$z), params[["tiles"]])
cells <- crop_grid(dem, tile$rows, tile$columns)
z <- cells$z

direct <- read_grid(input[["direct"]])$z
diffuse <- read_grid(input[["diffuse"]])$z
stopifnot(identical(dim(direct), dim(z)), identical(is.na(direct), is.na(z)))

flat <- read.table(input[["flat"]], header = TRUE, sep = "\t")
at_height <- function(values) matrix(splinefun(flat$height_m, values)(z), nrow(z))
n <- params[["cloud_cover"]]
q <- sun_quotient(direct, diffuse, at_height(flat$direct), at_height(flat$diffuse), n)

lapse <- read.table(input[["lapse"]], header = TRUE, sep = "\t")$lapse_K_per_m
coarse <- function(name) refine(read_grid(input[[name]]), cells)
temperature <- downscaled_temperature(coarse("temperature"), coarse("coarse"), z, lapse, q,
                                      params[["sun_coefficient"]], params[["leaf_area_ratio"]])

put <- function(name, values, unit) {
  cells$z <- values
  write_grid(cells, snakemake@output[[name]], unit = unit)
}
put("temperature", temperature, "C")
put("quotient", q, "")
put("sun", below_clouds(direct + diffuse, n), "kWh/m2")
