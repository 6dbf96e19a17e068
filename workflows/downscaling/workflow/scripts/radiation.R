# Clear sky radiation of a month on one tile (kWh/m2): the long job.
# One R process that has SAGA compute the sky view factor of the tile with its halo,
# and then the sun of every half hour of the month.
#
# Made to be stopped anywhere and to go on elsewhere: absolute paths, nothing in the
# node's /tmp, no clock, and no result in its place before it is complete and checked.
#
#   Rscript radiation.R dem=.. tile=r1c1 tiles=2 year=2018 month=01 latitude=.. halo=<m> directions=16
#     hour_step=0.5 transmittance=70 direct=<out.sdat> diffuse=<out.sdat> log=<file>

here <- dirname(sub("^--file=", "", grep("^--file=", commandArgs(FALSE), value = TRUE)))
for (name in c("grid", "tiles", "saga", "sun", "job")) source(file.path(here, "lib", paste0(name, ".R")))

arguments <- read_arguments(c("dem", "tile", "tiles", "year", "month", "latitude", "halo", "directions", "hour_step",
                              "transmittance", "direct", "diffuse", "log"))
number <- function(key) {
  value <- suppressWarnings(as.numeric(arguments[[key]]))
  if (is.na(value)) stop(key, "=", arguments[[key]], " is not a number")
  value
}
site <- list(latitude = number("latitude"), hour_step = number("hour_step"), transmittance = number("transmittance"))
log <- normalizePath(arguments$log, mustWork = FALSE)

dem <- read_grid(arguments$dem)
halo <- ceiling(number("halo") / dem$d)
tile <- tile_cells(arguments$tile, dim(dem$z), number("tiles"))
window <- tile_cells(arguments$tile, dim(dem$z), number("tiles"), halo)
relief <- crop_grid(dem, window$rows, window$columns)
rm(dem)

scratch <- scratch_folder(arguments$direct)
work <- function(name) file.path(scratch, paste0(name, ".sgrd"))
write_grid(relief, work("dem"), unit = "m")

# The sky view factor of a cell is exact when the halo is as wide as the radius.
sky_view(work("dem"), work("visible"), work("svf"), halo * relief$d, number("directions"), log)
sun_of_month(work("dem"), work("svf"), work("direct"), work("diffuse"), number("year"), number("month"), site, log)

cells <- inside(tile, window)
for (what in c("direct", "diffuse")) {
  result <- read_masked(work(what), relief)
  write_grid(crop_grid(result, cells$rows, cells$columns), work(paste0(what, "_tile")), unit = "kWh/m2")
}
# Only now, with both complete.
for (what in c("direct", "diffuse")) publish_grid(work(paste0(what, "_tile")), arguments[[what]])
