# Rasters of the user: read by terra, looked at before anything long runs, each fault told with the
# key of the configuration, the file, what was found and what would be right.

#' Open a raster of one layer; stops when it has none or several, or no projection.
#' @param key of the configuration
open_raster <- function(path, key) {
  r <- tryCatch(terra::rast(path), error = function(e) stop(key, ": ", path, " is not a raster: ", conditionMessage(e)))
  if (terra::nlyr(r) != 1)
    stop(key, ": ", path, " has ", terra::nlyr(r), " bands; it must have one (gdal_translate -b 1 takes one out)")
  # terra itself takes degrees for granted where the numbers allow it.
  if (!any(grepl("^Coordinate System is", terra::describe(path))) || !nzchar(terra::crs(r)))
    stop(key, ": ", path, " has no projection; gdal_edit.py -a_srs EPSG:... writes the one it is in")
  r
}

#' Corners and edges of a rectangle in crs, as points, so that a bent edge is followed.
outline <- function(extent, crs) {
  s <- seq(0, 1, length.out = 21)
  x <- extent[1] + s * (extent[2] - extent[1])
  y <- extent[3] + s * (extent[4] - extent[3])
  xy <- rbind(cbind(x, extent[3]), cbind(x, extent[4]), cbind(extent[1], y), cbind(extent[2], y))
  terra::vect(xy, crs = crs)
}

#' The rectangle of a raster's projection that holds an extent in crs: xmin, xmax, ymin, ymax.
extent_in <- function(extent, crs, r) {
  xy <- terra::crds(terra::project(outline(extent, crs), terra::crs(r)))
  c(range(xy[, 1]), range(xy[, 2]))
}

#' Stop unless a raster covers an extent (xmin, xmax, ymin, ymax in crs).
check_cover <- function(r, path, key, extent, crs) {
  need <- extent_in(extent, crs, r)
  have <- as.vector(terra::ext(r))
  names(have) <- NULL
  text <- function(e) sprintf("%.6g to %.6g, %.6g to %.6g", e[1], e[2], e[3], e[4])
  both <- paste0("; in its projection the zone is ", text(need), ", the raster ", text(have))
  if (have[1] >= need[2] || have[2] <= need[1] || have[3] >= need[4] || have[4] <= need[3])
    stop(key, ": ", path, " does not overlap the zone", both)
  slack <- max(terra::res(r)) * 1e-6
  if (have[1] > need[1] + slack || have[2] < need[2] - slack || have[3] > need[3] + slack || have[4] < need[4] - slack)
    stop(key, ": ", path, " does not cover the zone", both)
}

#' The elevation model, before it is imported.
check_relief <- function(path, crs, extent) {
  r <- open_raster(path, "dem")
  if (length(extent)) check_cover(r, path, "dem", extent, crs)
  invisible(r)
}

#' Stop at heights that cannot be metres on Earth, and at holes.
#' @param found as of grid_summary()
check_zone <- function(found, zone, allow_nodata, source_dem) {
  cells <- zone$nx * zone$ny
  if (found$missing == cells) stop("dem: ", source_dem, " has nothing but NoData in the zone")
  if (found$lowest < -500 || found$highest > 9000)
    stop("dem: ", source_dem, " has heights from ", format(found$lowest), " to ", format(found$highest),
         "; they must be in m, -500 to 9000: are these feet or decimetres, or NoData that is not marked as such?")
  if (found$missing > 0 && !allow_nodata)
    stop("dem: ", source_dem, " has NoData in ", found$missing, " of ", cells, " cells of the zone; fill them, take ",
         "another extent, or set allow_nodata: true if there is nothing to compute there, as in the sea")
  found
}

#' A part of a raster, with some cells more, as a file of its own.
#' @param extent xmin, xmax, ymin, ymax in crs
cut_raster <- function(path, extent, crs, to) {
  r <- terra::rast(path)
  margin <- 8 * terra::res(r)[c(1, 1, 2, 2)] * c(-1, 1, -1, 1)
  part <- terra::crop(r, terra::ext(extent_in(extent, crs, r) + margin), snap = "out")
  terra::writeRaster(part, to, datatype = "FLT4S", gdal = "BIGTIFF=IF_SAFER")
  to
}

#' The target of SAGA's reprojection by the centres of its outermost cells.
target_nodes <- function(extent, cell) {
  inner <- extent + c(1, -1, 1, -1) * cell / 2
  list(TARGET_USER_XMIN = inner[1], TARGET_USER_XMAX = inner[2], TARGET_USER_YMIN = inner[3], TARGET_USER_YMAX = inner[4])
}

#' Latitude of the centre of each row of tiles, or the one that was given for all.
tile_latitudes <- function(zone, tiles, crs, latitude) {
  counts <- rep(tiles, length.out = 2)
  middle <- function(row) mean(tile_cells(paste0("r", row, "c1"), c(zone$ny, zone$nx), counts)$rows)
  rows <- seq_len(counts[1])
  if (is.numeric(latitude)) return(data.frame(row = rows, latitude = latitude))
  y <- zone$y + (vapply(rows, middle, 0) - 1) * zone$d
  x <- zone$x + (zone$nx - 1) / 2 * zone$d
  points <- terra::project(terra::vect(cbind(x, y), crs = crs), "EPSG:4326")
  data.frame(row = rows, latitude = terra::crds(points)[, 2])
}
