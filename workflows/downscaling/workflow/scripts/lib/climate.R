# Temperature of a month at about a kilometre, and its lapse rate.

#' Stations that have all that a month needs.
#' @param month column, e.g. "t01"
#' @param zone frame of any grid of the zone
read_stations <- function(path, month, zone) {
  wrong <- function(...) stop("stations: ", path, ": ", ..., call. = FALSE)
  # A name is text as it stands: Val d'Isere, Hut #3.
  stations <- read.table(path, header = TRUE, sep = "\t", quote = "", comment.char = "")
  needed <- c("x", "y", "elevation", month)
  missing <- setdiff(needed, names(stations))
  if (length(missing)) wrong("no column ", paste(missing, collapse = ", "))
  stations <- stations[complete.cases(stations[needed]), ]
  if (nrow(stations) < 5) wrong("a lapse rate needs at least 5 stations, there are ", nrow(stations))
  for (name in needed)
    if (!is.numeric(stations[[name]])) wrong(name, " has values that are no numbers, as 1234.5")
  t <- range(stations[[month]])
  if (t[1] < -60 || t[2] > 60) wrong(month, " is from ", t[1], " to ", t[2], "; it must be in C, -60 to 60")
  h <- range(stations$elevation)
  if (h[1] < -500 || h[2] > 9000) wrong("elevation is from ", h[1], " to ", h[2], "; it must be in m, -500 to 9000")
  check_places(stations, zone, wrong)
  stations
}

#' Stop at stations that are in degrees or far from the zone.
#' @param far m: what is so far away says nothing of the zone
check_places <- function(stations, zone, wrong, far = 200e3) {
  remedy <- "; x and y must be in m, in the crs of the configuration"
  place <- function(i) sprintf("x = %.9g, y = %.9g", stations$x[i], stations$y[i])
  degrees <- which(abs(stations$x) <= 360 & abs(stations$y) <= 90)[1]
  if (!is.na(degrees)) wrong(place(degrees), " look like degrees", remedy)
  beyond <- function(at, first, n) pmax(first - at, at - first - (n - 1) * zone$d, 0)
  distance <- sqrt(beyond(stations$x, zone$x, zone$nx)^2 + beyond(stations$y, zone$y, zone$ny)^2)
  i <- which.max(distance)
  if (distance[i] > far)
    wrong("the station at ", place(i), " is ", round(distance[i] / 1000), " km from the zone, more than ", far / 1000,
          remedy)
}

#' Temperature against height: a straight line, or one of a given slope.
#' @param lapse K/m, NULL: by regression
#' @return list of line (intercept, slope), residual, r_squared
fit_line <- function(t, z, lapse = NULL) {
  if (!is.null(lapse)) {
    line <- c(mean(t + lapse * z), -lapse)
    residual <- t - line[1] - line[2] * z
    return(list(line = line, residual = residual, r_squared = 1 - sum(residual^2) / sum((t - mean(t))^2)))
  }
  fit <- lm(t ~ z)
  list(line = unname(coef(fit)), residual = unname(resid(fit)), r_squared = summary(fit)$r.squared)
}

#' What stations differ from their line, spread by weights 1 / (distance^2 + smooth^2).
#' @param smooth m: within this distance no station has the word alone
spread <- function(relief, stations, residual, smooth = 5000) {
  x <- rep(eastings(relief), each = nrow(relief$z))
  y <- rep(northings(relief), ncol(relief$z))
  weights <- 1 / (outer(x, stations$x, "-")^2 + outer(y, stations$y, "-")^2 + smooth^2)
  matrix(rowSums(weights * rep(residual, each = length(x))) / rowSums(weights), nrow(relief$z))
}
