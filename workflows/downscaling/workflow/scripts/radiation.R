# Clear sky radiation of a month on one tile (kWh/m2): the long job.
# One R process that has SAGA compute the sky view factor of the tile with its halo,
# and then the sun of every half hour of the month.
#
# Made to be stopped anywhere and to go on elsewhere: absolute paths, nothing in the
# node's /tmp, no clock, and no result in its place before it is complete and checked.
#
#   Rscript radiation.R dem=.. tile=r1c1 tiles=2 year=2018 month=01 latitude=.. halo=<m> directions=16
#     hour_step=0.5 transmittance=70 direct=<out.sdat> diffuse=<out.sdat> log=<file> [around=<grid>]
#
# tiles: per side, or rows and columns as 3x2; latitude: a number, or a table with one for each row of tiles;
# around: the relief with what lies around the zone, for the halo; without it the halo ends where the zone does.

here <- dirname(sub("^--file=", "", grep("^--file=", commandArgs(FALSE), value = TRUE)))
for (name in c("grid", "bands", "tiles", "saga", "sun", "job")) source(file.path(here, "lib", paste0(name, ".R")))

arguments <- read_arguments(c("dem", "tile", "tiles", "year", "month", "latitude", "halo", "directions", "hour_step",
                              "transmittance", "direct", "diffuse", "log"))
number <- function(key) {
  value <- suppressWarnings(as.numeric(arguments[[key]]))
  if (is.na(value)) stop(key, "=", arguments[[key]], " is not a number")
  value
}
tiles <- tile_counts(arguments$tiles)
latitude <- latitude_of(arguments$latitude, tile_row(arguments$tile))
site <- list(latitude = latitude, hour_step = number("hour_step"), transmittance = number("transmittance"))
log <- normalizePath(arguments$log, mustWork = FALSE)

# Nothing of the zone but the window is read, and R keeps none of it: what R holds would be in every image.
around <- if (is.null(arguments$around)) arguments$dem else arguments$around
zone <- grid_frame(arguments$dem)
halo <- ceiling(number("halo") / zone$d)
tile <- tile_cells(arguments$tile, c(zone$ny, zone$nx), tiles)
window <- tile_window(tile, zone, grid_frame(around), halo)

scratch <- scratch_folder(arguments$direct)
work <- function(name) file.path(scratch, paste0(name, ".sgrd"))
copy_window(around, work("dem"), window$rows, window$columns, unit = "m")
invisible(gc())

# The sky view factor of a cell is exact when the halo is as wide as the radius. One cell at least: SAGA takes a radius
# of 0 for no limit at all.
sky_view(work("dem"), work("visible"), work("svf"), max(halo, 1) * zone$d, number("directions"), log)
sun_of_month(work("dem"), work("svf"), work("direct"), work("diffuse"), number("year"), number("month"), site, log)

first <- c(min(tile$rows), min(tile$columns)) + offset_in(zone, grid_frame(around))
rows <- first[1] - min(window$rows) + seq_along(tile$rows)
columns <- first[2] - min(window$columns) + seq_along(tile$columns)
frame <- crop_frame(grid_frame(work("dem")), rows, columns)
for (what in c("direct", "diffuse")) {
  masked <- function(band) read_masked(work(what), read_grid(work("dem"), rows[band], columns), rows[band], columns)$z
  write_bands(frame, work(paste0(what, "_tile")), masked, "kWh/m2")
}
# Only now, with both complete.
for (what in c("direct", "diffuse")) publish_grid(work(paste0(what, "_tile")), arguments[[what]])
