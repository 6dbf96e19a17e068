# Downscaled temperature (C) of one tile and month, with the radiation below clouds
# (kWh/m2) and the quotient that carries the relief's effect. Some rows at a time.
for (file in snakemake@input[["lib"]]) source(file)

open_log(snakemake@log[[1]])
input <- snakemake@input
params <- snakemake@params
name <- snakemake@wildcards[["tile"]]
zone <- grid_frame(input[["dem"]])
tile <- tile_cells(name, c(zone$ny, zone$nx), unlist(params[["tiles"]]))
frame <- crop_frame(zone, tile$rows, tile$columns)
stopifnot(all(unlist(lapply(input[c("direct", "diffuse")], function(path) {
  found <- grid_frame(path)
  found$ny == frame$ny && found$nx == frame$nx
}))))

flat <- read.table(input[["flat"]], header = TRUE, sep = "\t")
if (!is.null(flat$row)) flat <- flat[flat$row == tile_row(name), ]
lapse <- read.table(input[["lapse"]], header = TRUE, sep = "\t")$lapse_K_per_m
climate <- read_grid(input[["temperature"]])
heights <- read_grid(input[["coarse"]])
clouds <- if (length(input[["clouds"]])) read_grid(input[["clouds"]])

band <- function(rows) {
  cells <- read_grid(input[["dem"]], tile$rows[rows], tile$columns)
  z <- cells$z
  direct <- read_grid(input[["direct"]], rows)$z
  diffuse <- read_grid(input[["diffuse"]], rows)$z
  stopifnot(identical(is.na(direct), is.na(z)), identical(is.na(diffuse), is.na(z)))
  at_height <- function(values) matrix(splinefun(flat$height_m, values)(z), nrow(z))
  # A spline between cloudy and clear kilometres may leave 0-1 a little.
  n <- if (is.null(clouds)) params[["cloud_cover"]] else pmin(pmax(refine(clouds, cells), 0), 1)
  q <- sun_quotient(direct, diffuse, at_height(flat$direct), at_height(flat$diffuse), n)
  temperature <- downscaled_temperature(refine(climate, cells), refine(heights, cells), z, lapse, q,
                                        params[["sun_coefficient"]], params[["leaf_area_ratio"]])
  list(temperature, q, below_clouds(direct + diffuse, n))
}
out <- snakemake@output
write_bands(frame, c(out[["temperature"]][1], out[["quotient"]][1], out[["sun"]][1]), band, c("C", "", "kWh/m2"))
