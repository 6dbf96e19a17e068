# Sky view and sunshine of a month, by SAGA.

#' First and last day of a month.
month_days <- function(year, month) {
  first <- as.Date(sprintf("%04d-%02d-01", year, month))
  list(first = first, last = seq(first, by = "month", length.out = 2)[2] - 1)
}

#' Sky view factor (0-1): the share of the sky that the relief leaves open.
#' Exact inside a halo as wide as the radius.
#' @param radius search radius (m)
sky_view <- function(dem, visible, svf, radius, directions, log) {
  saga("ta_lighting", 3, list(
    DEM = dem, VISIBLE = visible, SVF = svf, RADIUS = radius, NDIRS = directions, METHOD = 0, DLEVEL = 3
  ), outputs = c(visible, svf), log = log, size = grid_size(dem))
}

#' Direct and diffuse radiation of a month under a clear sky (kWh/m2), in one call.
#' Traps of SAGA 8.5.0 that shape the options:
#'   DAY needs a time of day: without it the date is ignored and today computed (see check_dates);
#'   DAYS_STEP > 1 counts days twice at the end; METHOD=3 is broken, 2 (lumped transmittance) is sane;
#'   LOCATION=1 counts hours from the middle of each grid, so tiles would not fit: 0 and one latitude.
#' @param svf sky view factor grid, or NULL: taken from the slope alone
#' @param site list of latitude (degrees), hour_step (h), transmittance (percent)
sun_of_month <- function(dem, svf, direct, diffuse, year, month, site, log) {
  days <- month_days(year, month)
  options <- list(
    GRD_DEM = dem, GRD_SVF = svf, GRD_DIRECT = direct, GRD_DIFFUS = diffuse,
    SOLARCONST = 1367, LOCALSVF = 1, UNITS = 0, SHADOW = 0, LOCATION = 0, LATITUDE = site$latitude,
    PERIOD = 2, DAY = paste(days$first, "00:00"), DAY_STOP = paste(days$last, "00:00"), DAYS_STEP = 1,
    HOUR_RANGE_MIN = 0, HOUR_RANGE_MAX = 24, HOUR_STEP = site$hour_step, METHOD = 2, LUMPED = site$transmittance
  )
  options <- options[!vapply(options, is.null, TRUE)]
  saga("ta_lighting", 2, options, outputs = c(direct, diffuse), log = log, size = grid_size(dem))
  check_dates(direct, days)
}

grid_size <- function(path) as.integer(read_header(path)[c("CELLCOUNT_Y", "CELLCOUNT_X")])

#' Stop unless SAGA's own record of the run (.mgrd) has the days that were asked for.
check_dates <- function(path, days) {
  record <- readLines(paste0(stem(path), ".mgrd"), warn = FALSE, skipNul = TRUE)
  day <- function(id) {
    line <- grep(sprintf("<OPTION [^>]*id=\"%s\"", id), record, value = TRUE, useBytes = TRUE)[1]
    sub("</OPTION>.*", "", sub(".*<OPTION [^>]*>", "", line))
  }
  done <- c(day("DAY"), day("DAY_STOP"))
  asked <- format(c(days$first, days$last))
  if (!identical(done, asked))
    stop("wrong dates: SAGA computed ", paste(done, collapse = " to "), ", asked for ", paste(asked, collapse = " to "))
}

#' Read what SAGA computed; NoData of the relief is NoData again
#' (ta_lighting 2 writes 0 there, which would be a very dark place).
#' @param rows,columns the part of it that dem is, NULL: all
read_masked <- function(path, dem, rows = NULL, columns = NULL) {
  g <- read_grid(path, rows, columns)
  g$z[is.na(dem$z)] <- NA
  if (!identical(is.na(g$z), is.na(dem$z)) || any(g$z < 0, na.rm = TRUE))
    stop(path, ": radiation is missing or negative where there is relief")
  g
}
