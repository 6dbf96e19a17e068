# Temperature of a month at about a kilometre, and its lapse rate.

#' Stations that have all that a month needs.
#' @param month column, e.g. "t01"
read_stations <- function(path, month) {
  stations <- read.table(path, header = TRUE, sep = "\t")
  needed <- c("x", "y", "elevation", month)
  missing <- setdiff(needed, names(stations))
  if (length(missing)) stop("stations: ", path, ": no column ", paste(missing, collapse = ", "))
  stations <- stations[complete.cases(stations[needed]), ]
  if (nrow(stations) < 5) stop("stations: ", path, ": a lapse rate needs at least 5 stations, there are ", nrow(stations))
  t <- range(stations[[month]])
  if (t[1] < -60 || t[2] > 60)
    stop("stations: ", path, ": ", month, " is from ", t[1], " to ", t[2], "; it must be in C, -60 to 60")
  h <- range(stations$elevation)
  if (h[1] < -500 || h[2] > 9000)
    stop("stations: ", path, ": elevation is from ", h[1], " to ", h[2], "; it must be in m, -500 to 9000")
  stations
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
