# The elevation model on the workflow's grid, and its means at about 1 km.
# With an extent, no more than the zone and its halo is read of the source, and R holds some rows only;
# SAGA needs about 170 MB and 12 bytes for each cell of both the cut source and the result.
for (file in snakemake@input[["lib"]]) source(file)

log <- open_log(snakemake@log[[1]])
params <- snakemake@params
source_dem <- snakemake@input[["dem"]]
cell <- params[["cell"]]
crs <- params[["crs"]]
out <- snakemake@output[["dem"]]
extent <- unlist(params[["extent"]]) # xmin, xmax, ymin, ymax (m), of the results
halo <- ceiling(params[["halo"]] / cell)

scratch <- scratch_folder(out)
work <- function(name) file.path(scratch, name)
check_relief(source_dem, crs, extent, halo * cell)
if (length(extent)) {
  around <- extent + c(-1, 1, -1, 1) * halo * cell
  source_dem <- cut_raster(source_dem, around, crs, work("cut.tif"))
}
# SAGA knows square cells only. A raster of oblong ones (as most in degrees) that is given to a tool
# directly is made square by the nearest neighbour: doubled columns, stripes of wrong slopes. So it is
# imported first, RESAMPLING=2 (bicubic: keeps the summits).
saga("io_gdal", 0, list(
  FILES = normalizePath(source_dem), GRIDS = work("loaded.sgrd"), MULTIPLE = 0, TRANSFORM = 1, RESAMPLING = 2, EXTENT = 0
), outputs = work("loaded.sgrd"), log = log)
# RESAMPLING=3 (B-spline): slopes without the steps of the source's cells. UTM is conformal and true to scale
# within 0.04 %, which slopes need too (Mercator stretches lengths by 1/cos(lat)).
target <- list(TARGET_DEFINITION = 0, TARGET_USER_SIZE = cell, TARGET_USER_FITS = 0)
if (length(extent)) target <- c(target, target_nodes(around, cell))
saga("pj_proj4", 4, c(list(
  CRS_METHOD = 0, CRS_PROJ4 = crs, SOURCE = work("loaded.sgrd"), GRID = work("dem.sgrd"), RESAMPLING = 3,
  BYTEWISE = 0, KEEP_TYPE = 0, TARGET_AREA = 0
), target), outputs = work("dem.sgrd"), log = log)

raw <- grid_frame(work("dem.sgrd"))
if (raw$d != cell) stop("SAGA made cells of ", raw$d, " m, not ", cell, " m")
if (length(extent)) {
  rows <- halo + seq_len(round(diff(extent[3:4]) / cell))
  columns <- halo + seq_len(round(diff(extent[1:2]) / cell))
  if (any(c(raw$ny, raw$nx) != c(max(rows), max(columns)) + halo))
    stop("SAGA made ", raw$ny, " x ", raw$nx, " cells where the extent has other numbers")
  copy_window(work("dem.sgrd"), work("zone.sgrd"), rows, columns, unit = "m")
  copy_window(work("dem.sgrd"), snakemake@output[["around"]], seq_len(raw$ny), seq_len(raw$nx), unit = "m")
} else {
  dem <- read_grid(work("dem.sgrd"))
  if (params[["crop_nodata"]] && !params[["allow_nodata"]]) dem <- crop_nodata(dem)
  write_grid(dem, work("zone.sgrd"), unit = "m")
}
zone <- grid_frame(work("zone.sgrd"))
heights <- check_zone(grid_summary(work("zone.sgrd")), zone, params[["allow_nodata"]], source_dem = snakemake@input[["dem"]])
write_table(data.frame(rows = zone$ny, columns = zone$nx, heights), snakemake@output[["summary"]])
write_table(tile_latitudes(zone, unlist(params[["tiles"]]), crs, params[["latitude"]]), snakemake@output[["latitudes"]])
write_grid(block_means_of(work("zone.sgrd"), max(1, round(1000 / cell))), snakemake@output[["coarse"]], unit = "m")
write_header(zone, work("zone.sgrd"), "m", "dem")
publish_grid(work("zone.sgrd"), out)
say("relief: %d x %d cells of %g m, %.0f to %.0f m", zone$ny, zone$nx, cell, heights$lowest, heights$highest)
