# What each kind of map looks like. All palettes are fit for the colour-blind: a sequential one
# grows lighter from end to end, a two-sided one darker from its centre to both ends, and the sides
# stay apart without red cones, green cones or blue cones (tests/workflows/test_downscaling_maps.py).

# Anchors, evenly spaced from the lowest value to the highest; between them colours are mixed in CIE Lab.
PALETTES <- list(
  thermal = c("#0B2559", "#33348F", "#6F3F94", "#A94D87", "#DB6269", "#F58A4B", "#FBBC52", "#F9EE8D"),
  sunlight = c("#1B1030", "#4A1A3C", "#7E2A38", "#B0452B", "#D96D20", "#F09B30", "#FAC966", "#FFF4BD"),
  blue_red = c("#053061", "#2166AC", "#4F9BC9", "#A3CDE3", "#F7F7F5", "#F8BFA4", "#E58267", "#B92F37", "#67001F"),
  purple_orange = c("#2D004B", "#54278F", "#8073AC", "#BDB7D8", "#F7F7F5", "#FCC987", "#E69138", "#B35806", "#6B3200")
)

# title, note, unit of the scale; palette; how strong the shade of the relief is (0-1); centre of a
# two-sided scale; shared: all months on one scale, or each on its own.
STYLES <- list(
  temperature = list(
    title = "Mean air temperature", note = "All months on one scale", unit = expression(degree * C),
    palette = "thermal", shade = 0.75, shared = TRUE),
  downscaling = list(
    title = "Mean air temperature before and after downscaling",
    note = "Above: the climate that goes in. Below: with the height and the sun of every cell. Same scale",
    unit = expression(degree * C), palette = "thermal", shade = 0.75, shared = FALSE),
  sun_effect = list(
    title = "What the sun does to temperature",
    note = "Downscaled temperature less the part that height explains",
    unit = "K warmer or colder than flat open ground at the same height",
    palette = "blue_red", shade = 0.35, centre = 0, shared = TRUE),
  sun = list(
    title = "Solar radiation below clouds", note = "Direct and diffuse, sum of the month",
    unit = expression("kWh" ~ m^-2 ~ "in the month"), palette = "sunlight", shade = 0.25, shared = TRUE),
  quotient = list(
    title = "Sun of every slope over that of flat open ground", note = "Below clouds, at the same height",
    unit = "times the radiation of flat open ground", palette = "purple_orange", shade = 0.35,
    centre = 1, shared = TRUE)
)

#' n colours of a palette, from the lowest value to the highest.
palette_colours <- function(name, n) colorRampPalette(PALETTES[[name]], space = "Lab")(n)

#' The colours of the classes between breaks. Both sides of a centre have the same steps of colour,
#' also where one of them ends earlier.
class_colours <- function(breaks, style) {
  n <- length(breaks) - 1
  if (is.null(style$centre)) return(palette_colours(style$palette, n))
  below <- sum(breaks < style$centre - 1e-9)
  half <- max(below, n - below)
  palette_colours(style$palette, 2 * half)[half - below + seq_len(n)]
}

#' Edges of the colour classes: round numbers that cover all but the outermost 1 % of the values.
class_breaks <- function(grids, style) {
  values <- unlist(lapply(grids, function(g) range_of_most(g$z)))
  limits <- if (all(is.na(values))) c(0, 1) else range(values, na.rm = TRUE)
  if (diff(limits) < 1e-6 * max(1, abs(limits))) limits <- mean(limits) + c(-0.5, 0.5)
  if (is.null(style$centre)) return(pretty(limits, 30))
  around <- limits - style$centre
  step <- diff(pretty(c(0, max(abs(around))), 10))[1]
  style$centre + step * seq(min(-1, floor(around[1] / step)), max(1, ceiling(around[2] / step)))
}

range_of_most <- function(z) quantile(z, c(0.005, 0.995), na.rm = TRUE, names = FALSE)

#' For each month the edges of its classes; what stands above each other (rows) has the same.
#' @param rows list of lists of grids: rows[[kind]][[month]]
#' @param shared whether all months have the same as well
month_breaks <- function(rows, style, shared) {
  months <- seq_along(rows[[1]])
  if (shared) return(rep(list(class_breaks(do.call(c, rows), style)), length(months)))
  lapply(months, function(i) class_breaks(lapply(rows, `[[`, i), style))
}
