# Fields of the user's own, from whatever projection, cell and unit to the workflow's kilometre grid.

#' Values of a raster at the centres of the kilometre grid (bilinear), with all checks of its place.
#' Each centre is projected by itself: a warped raster is off by up to an eighth of its cells.
#' @param key of the configuration
#' @param coarse kilometre grid of the zone, e.g. the block means of the relief
import_field <- function(path, key, coarse, crs) {
  r <- open_raster(path, key)
  centres <- c(range(eastings(coarse)), range(northings(coarse)))
  check_cover(r, path, key, centres, crs)
  xy <- cbind(rep(eastings(coarse), each = nrow(coarse$z)), rep(northings(coarse), ncol(coarse$z)))
  there <- terra::crds(terra::project(terra::vect(xy, crs = crs), terra::crs(r)))
  near <- terra::crop(r, terra::ext(extent_in(centres, crs, r) + 3 * terra::res(r)[c(1, 1, 2, 2)] * c(-1, 1, -1, 1)))
  at <- function(raster) matrix(terra::extract(raster, there, method = "bilinear")[, 1], nrow(coarse$z))
  z <- at(near)
  z[is.nan(z) | at(terra::ifel(is.na(near), 1, 0)) > 0] <- NA # terra fills from the neighbours that there are
  if (all(is.na(z))) stop(key, ": ", path, " has nothing but NoData in the zone")
  if (anyNA(z)) {
    hole <- which(is.na(z), arr.ind = TRUE)[1, ]
    stop(key, ": ", path, " has NoData inside the zone, ", sum(is.na(z)), " of ", length(z), " km cells, e.g. at x = ",
         round(eastings(coarse)[hole[2]]), ", y = ", round(northings(coarse)[hole[1]]), "; fill them or take another extent")
  }
  coarse$z <- z
  coarse
}

#' Units: what a value is multiplied by, and what is added then.
UNITS <- list(
  "C" = c(1, 0), "K" = c(1, -273.15), "0.1K" = c(0.1, -273.15),
  "fraction" = c(1, 0), "percent" = c(0.01, 0), "0.01 percent" = c(1e-4, 0), "m" = c(1, 0)
)

#' Convert, and stop at values that the unit cannot mean.
#' @param limits,name of the converted values, e.g. c(-60, 60), "C"
#' @param least of the highest one, NULL: anything
convert_field <- function(field, path, key, unit, limits, name, least = NULL) {
  found <- range(field$z)
  field$z <- field$z * UNITS[[unit]][1] + UNITS[[unit]][2]
  after <- range(field$z)
  as_read <- paste0(key, ": ", path, " has values from ", signif(found[1], 6), " to ", signif(found[2], 6), ", as ", unit,
                    " ", signif(after[1], 6), " to ", signif(after[2], 6), if (nzchar(name)) " ", name)
  if (after[1] < limits[1] - 1e-6 || after[2] > limits[2] + 1e-6)
    stop(as_read, "; they must be from ", limits[1], " to ", limits[2],
         ": is the unit another one? (A scale and an offset in the file itself are applied before.)")
  if (!is.null(least) && after[2] < least)
    stop(as_read, "; the highest must be at least ", least, ": is the unit another one? (A sky that is really as ",
         "clear as that can be told by 12 numbers.)")
  field
}
