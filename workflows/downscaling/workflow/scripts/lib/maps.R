# Maps in base R: colours by value, light and shade by the relief.

#' Brightness (0-1) of the relief under a light from the north-west, 45 degrees high.
hillshade <- function(dem) {
  z <- dem$z
  ny <- nrow(z)
  nx <- ncol(z)
  slope_x <- (z[, c(2:nx, nx)] - z[, c(1, 1:(nx - 1))]) / (2 * dem$d)
  slope_y <- (z[c(2:ny, ny), ] - z[c(1, 1:(ny - 1)), ]) / (2 * dem$d)
  azimuth <- 315 * pi / 180
  height <- 45 * pi / 180
  light <- sin(height) - cos(height) * (slope_x * sin(azimuth) + slope_y * cos(azimuth))
  shade <- light / sqrt(1 + slope_x^2 + slope_y^2)
  shade[is.na(shade)] <- sin(height)
  pmin(pmax(shade, 0), 1)
}

#' Kinds of maps: title, unit, colours (all fit for the colour-blind), how strong the relief's shade is,
#' the centre of a two-sided scale, whether all months share one scale.
STYLES <- list(
  temperature = list(title = "Mean air temperature", unit = expression(degree * C), colours = "Roma", reverse = TRUE,
                     shade = 0.7),
  sun = list(title = "Solar radiation below clouds", unit = expression(kWh ~ m^-2 ~ "a month"), colours = "Inferno",
             shade = 0.2),
  quotient = list(title = "Radiation relative to flat open ground", unit = "radiation / radiation of flat open ground",
                  colours = "Vik", shade = 0.45, centre = 1, shared = TRUE)
)
CLASSES <- 32

style_colours <- function(style) hcl.colors(CLASSES, style$colours, rev = isTRUE(style$reverse))

#' Limits of the colour scale: all but the outermost 0.2 % of the values.
value_limits <- function(grids, style) {
  values <- unlist(lapply(grids, function(g) g$z))
  limits <- quantile(values, c(0.001, 0.999), na.rm = TRUE, names = FALSE)
  if (!is.null(style$centre)) limits <- style$centre + c(-1, 1) * max(abs(limits - style$centre))
  if (diff(limits) <= 0) limits <- limits + c(-0.5, 0.5)
  limits
}

#' A picture: colour of the value times shade (1 on flat ground), north up; NoData is grey.
picture <- function(z, limits, colours, shade) {
  class <- pmin(CLASSES, pmax(1, ceiling(CLASSES * (z - limits[1]) / diff(limits))))
  rgb_values <- col2rgb(colours[class]) / 255
  rgb_values[, is.na(class)] <- 0.85
  light <- round(24 * as.vector(shade)) / 24 # few steps keep the file small
  rgb_values <- pmin(sweep(rgb_values, 2, light, "*"), 1)
  image <- matrix(rgb(rgb_values[1, ], rgb_values[2, ], rgb_values[3, ]), nrow(z))
  image[nrow(image):1, , drop = FALSE]
}

#' Limits of the zone (km): west, east, south, north.
extent <- function(g) {
  half <- g$d / 2
  c(g$x - half, g$x + (ncol(g$z) - 0.5) * g$d, g$y - half, g$y + (nrow(g$z) - 0.5) * g$d) / 1000
}

#' One map. A coarse grid is drawn over the extent of the zone, without shade.
panel <- function(g, dem, shade, limits, colours, title) {
  if (!identical(dim(g$z), dim(dem$z))) shade <- matrix(1, nrow(g$z), ncol(g$z))
  zone <- extent(dem)
  at <- extent(g)
  plot(NA, xlim = zone[1:2], ylim = zone[3:4], asp = 1, xaxs = "i", yaxs = "i", xlab = "", ylab = "", axes = FALSE)
  image <- picture(g$z, limits, colours, shade)
  rasterImage(image, at[1], at[3], at[2], at[4], interpolate = FALSE)
  rect(zone[1], zone[3], zone[2], zone[4], border = "grey30", xpd = NA)
  axis(1, at = pretty(zone[1:2], 4), cex.axis = 0.8, tcl = -0.25, mgp = c(2, 0.2, 0), lwd = 0, lwd.ticks = 1)
  axis(2, at = pretty(zone[3:4], 5), cex.axis = 0.8, tcl = -0.25, mgp = c(2, 0.4, 0), lwd = 0, lwd.ticks = 1)
  mtext(title, 3, line = 0.3, font = 2, cex = 0.85, adj = 0)
  mtext("km", 1, line = 0.2, cex = 0.65, adj = 1)
}

#' The colour scale below a column of maps.
legend_bar <- function(limits, colours, unit) {
  edges <- seq(limits[1], limits[2], length.out = CLASSES + 1)
  plot(NA, xlim = limits, ylim = 0:1, xaxs = "i", yaxs = "i", xlab = "", ylab = "", axes = FALSE)
  rect(edges[-length(edges)], 0, edges[-1], 1, col = colours, border = NA)
  box(col = "grey30")
  axis(1, cex.axis = 0.85, tcl = -0.25, mgp = c(2, 0.3, 0))
  mtext(unit, 1, line = 1.5, cex = 0.75)
}

#' Places of the plots on the page: up to four months side by side, each a column of maps
#' over its scale; more months go below. Plots are numbered month by month.
page_places <- function(months, plots) {
  columns <- min(4, months)
  blocks <- lapply(split(seq_len(months), (seq_len(months) - 1) %/% columns), function(block) {
    numbers <- vapply(block, function(i) (i - 1) * plots + seq_len(plots), numeric(plots))
    cbind(numbers, matrix(0, plots, columns - length(block)))
  })
  unname(do.call(rbind, blocks))
}

#' The whole page.
#' @param rows list of lists of grids: rows[[kind]][[month]]
#' @param width pixels of one map
map_page <- function(path, rows, dem, style, title, months, width) {
  colours <- style_colours(style)
  # A cell of flat ground keeps its colour: the light stands 45 degrees high.
  shade <- 1 + style$shade * (hillshade(dem) - sin(pi / 4))
  limits <- lapply(seq_along(months), function(i) value_limits(lapply(rows, `[[`, i), style))
  if (isTRUE(style$shared)) limits[] <- list(value_limits(do.call(c, rows), style))
  places <- page_places(length(months), length(rows) + 1)
  # Margins are set in lines of 0.2 inches; what they leave has the zone's own shape.
  inch <- 96
  line <- 0.2
  map_height <- (width / inch - 3.5 * line) * nrow(dem$z) / ncol(dem$z) + 3 * line
  heights <- rep(c(rep(map_height, length(rows)), 0.65), length.out = nrow(places))
  png(path, ncol(places) * width, round((sum(heights) + 2 * line) * inch), res = inch, type = "cairo")
  on.exit(dev.off())
  layout(places, heights = heights)
  par(oma = c(0, 0, 2, 0), bg = "white", cex = 1)
  for (i in seq_along(months)) {
    for (row in rows) {
      par(mar = c(1.5, 2.5, 1.5, 1))
      panel(row[[i]], dem, shade, limits[[i]], colours, paste0(months[i], ", ", cell_name(row[[i]]$d)))
    }
    par(mar = c(2.7, 2.5, 0.1, 1))
    legend_bar(limits[[i]], colours, style$unit)
  }
  mtext(title, 3, outer = TRUE, line = 0.4, font = 2)
}

cell_name <- function(d) if (d >= 500) sprintf("%.1f km", d / 1000) else sprintf("%g m", d)
