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

#' Corners and edges of a rectangle as points, so that a bent edge is followed.
outline <- function(extent) {
  s <- seq(0, 1, length.out = 21)
  x <- extent[1] + s * (extent[2] - extent[1])
  y <- extent[3] + s * (extent[4] - extent[3])
  rbind(cbind(x, extent[3]), cbind(x, extent[4]), cbind(extent[1], y), cbind(extent[2], y))
}

#' Points (a matrix of x, y) in another projection.
projected <- function(xy, from, to) terra::crds(terra::project(terra::vect(xy, crs = from), to))

#' The rectangle of a raster's projection that holds an extent in crs: xmin, xmax, ymin, ymax.
extent_in <- function(extent, crs, r) {
  xy <- projected(outline(extent), crs, terra::crs(r))
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

#' The elevation model and the projection of the results, before it is imported.
#' @param halo m
check_relief <- function(path, crs, extent, halo) {
  r <- open_raster(path, "dem")
  if (!nzchar(suppressWarnings(terra::crs(terra::vect(cbind(0, 0), crs = crs))))) stop("crs: PROJ does not know ", crs)
  if (length(extent)) {
    check_cover(r, path, "dem", extent, crs)
    tell_missing_halo(r, path, extent, crs, halo)
    middle <- projected(cbind(mean(extent[1:2]), mean(extent[3:4])), crs, "EPSG:4326")
  } else {
    ends <- as.vector(terra::ext(r))
    middle <- projected(cbind(mean(ends[1:2]), mean(ends[3:4])), terra::crs(r), "EPSG:4326")
  }
  check_crs(crs, as.vector(middle))
}

#' Stop unless a projection is conformal, true to scale and not turned, as slopes and the sun need it.
#' @param middle longitude and latitude of the zone's
check_crs <- function(crs, middle) {
  wrong <- function(...)
    stop("crs: ", crs, " ", ..., " in the middle of the zone (longitude ", round(middle[1], 2), ", latitude ",
         round(middle[2], 2), "); right there is ", utm_of(middle), call. = FALSE)
  at <- projection_at(crs, middle)
  if (anyNA(at)) wrong("has no coordinates")
  if (at[["longest"]] / at[["shortest"]] > 1.005)
    wrong("is not conformal: a metre is ", signif(at[["shortest"]], 4), " to ", signif(at[["longest"]], 4),
          " m long, by its direction (0.5 % of difference are allowed),")
  if (abs(at[["longest"]] - 1) > 0.01)
    wrong("is not true to scale: a metre is ", signif(at[["longest"]], 4), " m long (1 % of difference is allowed)")
  if (abs(at[["turned"]]) > 6)
    wrong("has its north ", round(abs(at[["turned"]]), 1), " degrees from true north (6 are allowed)")
}

#' What a projection makes of a metre, at longest and at shortest, and its north clockwise from the grid's (degrees),
#' by points 1 km around a place.
projection_at <- function(crs, place) {
  flat <- 1 - 0.00669438 * sin(place[2] * pi / 180)^2 # of WGS84
  north <- c(0, 1000 / (6335439 / flat^1.5)) * 180 / pi
  east <- c(1000 / (6378137 / sqrt(flat) * cos(place[2] * pi / 180)), 0) * 180 / pi
  around <- rbind(place + east, place - east, place + north, place - north)
  xy <- projected(around, "EPSG:4326", crs)
  if (nrow(xy) < 4 || any(!is.finite(xy))) return(NA)
  jacobian <- cbind(xy[1, ] - xy[2, ], xy[3, ] - xy[4, ]) / 2000
  scales <- svd(jacobian)$d
  c(longest = scales[1], shortest = scales[2], turned = atan2(jacobian[[1, 2]], jacobian[[2, 2]]) * 180 / pi)
}

#' The UTM projection of a place.
utm_of <- function(place)
  paste0("+proj=utm +zone=", floor((place[1] + 180) / 6) %% 60 + 1, if (place[2] < 0) " +south",
         " +datum=WGS84 +units=m +no_defs")

#' Tell of sides where the relief ends inside the halo: no shadows come in from there.
tell_missing_halo <- function(r, path, extent, crs, halo) {
  outwards <- c(-1, 1, -1, 1)
  have <- as.vector(terra::ext(r)) + outwards * max(terra::res(r)) * 1e-6
  reaches <- function(side, step) {
    edge <- extent
    edge[if (side <= 2) 1:2 else 3:4] <- extent[side] + outwards[side] * step
    xy <- projected(outline(edge), crs, terra::crs(r))
    all(xy[, 1] >= have[1], xy[, 1] <= have[2], xy[, 2] >= have[3], xy[, 2] <= have[4])
  }
  steps <- seq(0, halo, length.out = 41)
  for (side in 1:4) {
    ends <- which(!vapply(steps, reaches, TRUE, side = side))[1]
    if (!is.na(ends))
      say("warning: dem: %s ends about %.0f m short of the halo of %.0f m in the %s; shadows from there are missing", path,
          halo - steps[max(1, ends - 1)], halo, c("west", "east", "south", "north")[side])
  }
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
  check_latitude(zone, crs, latitude)
  counts <- rep(tiles, length.out = 2)
  middle <- function(row) mean(tile_cells(paste0("r", row, "c1"), c(zone$ny, zone$nx), counts)$rows)
  rows <- seq_len(counts[1])
  if (is.numeric(latitude)) return(data.frame(row = rows, latitude = latitude))
  y <- zone$y + (vapply(rows, middle, 0) - 1) * zone$d
  x <- zone$x + (zone$nx - 1) / 2 * zone$d
  data.frame(row = rows, latitude = projected(cbind(x, y), crs, "EPSG:4326")[, 2])
}

#' Stop at a zone too near to a pole, and at a latitude that is not the zone's.
check_latitude <- function(zone, crs, latitude) {
  edges <- c(zone$x + c(-0.5, zone$nx - 0.5) * zone$d, zone$y + c(-0.5, zone$ny - 0.5) * zone$d)
  found <- range(projected(outline(edges), crs, "EPSG:4326")[, 2])
  text <- paste0("from ", round(found[1], 2), " to ", round(found[2], 2), " degrees north")
  if (max(abs(found)) > 60) stop("latitude: the zone is ", text, "; it must be between -60 and 60")
  if (is.numeric(latitude) && (latitude < found[1] - 0.5 || latitude > found[2] + 0.5))
    stop("latitude: ", latitude, " is not that of the zone, which is ", text, "; its middle is ", round(mean(found), 2))
}
