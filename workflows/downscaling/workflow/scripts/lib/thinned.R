# Grids for the screen: no more cells than a picture has pixels, whatever the size of the zone.

#' Read every k-th cell of every k-th row, k the least with which the grid fits into so many
#' pixels. Rows between are skipped in the file: memory and time are those of the picture.
#' @return a grid with cells k times as large; step = k
read_thinned <- function(path, width, height) {
  f <- grid_frame(path)
  k <- max(1, ceiling(f$nx / width), ceiling(f$ny / height))
  first <- (k + 1) %/% 2
  rows <- seq(first, f$ny, by = k)
  columns <- seq(first, f$nx, by = k)
  con <- file(f$data, "rb")
  on.exit(close(con))
  one_row <- function(row) {
    if (f$down) row <- f$ny + 1 - row
    seek(con, 4 * f$nx * (row - 1))
    readBin(con, "double", f$nx, size = 4L, endian = "little")[columns]
  }
  z <- matrix(unlist(lapply(rows, one_row)), length(rows), length(columns), byrow = TRUE)
  z[z >= f$nodata[1] & z <= f$nodata[2]] <- NA
  g <- grid(z, f$x + (first - 1) * f$d, f$y + (first - 1) * f$d, k * f$d)
  g$step <- k
  g
}

#' Slopes of the relief towards east and north; the edge takes its neighbour's height.
slopes <- function(dem) {
  z <- dem$z
  ny <- nrow(z)
  nx <- ncol(z)
  list(
    east = (z[, c(seq_len(nx)[-1], nx), drop = FALSE] - z[, c(1, seq_len(nx - 1)), drop = FALSE]) / (2 * dem$d),
    north = (z[c(seq_len(ny)[-1], ny), , drop = FALSE] - z[c(1, seq_len(ny - 1)), , drop = FALSE]) / (2 * dem$d)
  )
}

#' Brightness (0-1) of the relief under a light from the north-west, 45 degrees high; flat ground
#' has sin(45 degrees). A thinned relief has gentler slopes: heights are raised until a quarter of
#' the cells is as steep as 0.4.
hillshade <- function(dem) {
  slope <- slopes(dem)
  steep <- quantile(sqrt(slope$east^2 + slope$north^2), 0.75, na.rm = TRUE, names = FALSE)
  raise <- if (is.na(steep) || steep <= 0) 1 else min(20, max(1, 0.4 / steep))
  east <- raise * slope$east
  north <- raise * slope$north
  azimuth <- 315 * pi / 180
  height <- 45 * pi / 180
  light <- sin(height) - cos(height) * (east * sin(azimuth) + north * cos(azimuth))
  shade <- light / sqrt(1 + east^2 + north^2)
  shade[is.na(shade)] <- sin(height)
  pmin(pmax(shade, 0), 1)
}
