# The elevation model on the workflow's grid, and its means at about 1 km.
for (file in snakemake@input[["lib"]]) source(file)

log <- open_log(snakemake@log[[1]])
source_dem <- snakemake@input[["dem"]]
cell <- snakemake@params[["cell"]]
out <- snakemake@output[["dem"]]

scratch <- scratch_folder(out)
loaded <- file.path(scratch, "loaded.sgrd")
raw <- file.path(scratch, "dem.sgrd")
# SAGA knows square cells only. A raster of oblong ones (as most in degrees) that is given to a tool
# directly is made square by the nearest neighbour: doubled columns, stripes of wrong slopes. So it is
# imported first, RESAMPLING=2 (bicubic: keeps the summits).
saga("io_gdal", 0, list(
  FILES = normalizePath(source_dem), GRIDS = loaded, MULTIPLE = 0, TRANSFORM = 1, RESAMPLING = 2, EXTENT = 0
), outputs = loaded, log = log)
# RESAMPLING=3 (B-spline): slopes without the steps of the source's cells. UTM is conformal and true to scale
# within 0.04 %, which slopes need too (Mercator stretches lengths by 1/cos(lat)).
saga("pj_proj4", 4, list(
  CRS_METHOD = 0, CRS_PROJ4 = snakemake@params[["crs"]], SOURCE = loaded, GRID = raw, RESAMPLING = 3,
  BYTEWISE = 0, KEEP_TYPE = 0, TARGET_AREA = 0, TARGET_DEFINITION = 0, TARGET_USER_SIZE = cell, TARGET_USER_FITS = 0
), outputs = raw, log = log)

dem <- read_grid(raw)
if (dem$d != cell) stop("SAGA made cells of ", dem$d, " m, not ", cell, " m")
if (snakemake@params[["crop_nodata"]]) dem <- crop_nodata(dem)
write_grid(dem, out, unit = "m")
write_grid(block_means(dem, max(1, round(1000 / cell))), snakemake@output[["coarse"]], unit = "m")

heights <- range(dem$z, na.rm = TRUE)
say("relief: %d x %d cells of %g m, %.0f to %.0f m", nrow(dem$z), ncol(dem$z), cell, heights[1], heights[2])
