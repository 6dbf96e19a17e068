# Pages of maps in base R: the months side by side, colours by value, light and shade by the relief.
# All lengths are pixels of the page, from its upper left corner.

INCH <- 96
LEFT <- 48 # coordinates of the first column
RIGHT <- 20
GAP <- 16 # between columns
TITLE <- 62 # of the page
CAPTION <- 30 # above a map
AXIS <- 24 # coordinates below a block of maps
LEGEND <- 58
FOOT <- 50 # scale bar, north arrow
NO_DATA <- "#D9D9D9"

#' How many maps stand side by side: four, fewer of a wide zone, more of a tall one; rows are evenly filled.
map_columns <- function(months, width, height) {
  most <- if (width > 1.8 * height) 2 else if (height > 1.8 * width) 6 else 4
  ceiling(months / ceiling(months / most))
}

#' Where everything stands on the page.
#' @param width,height of one map
#' @param months,rows how many months, and maps of each (one above the other)
#' @param shared one colour scale for all, below them; or one below each month
page_layout <- function(width, height, months, rows, shared) {
  columns <- map_columns(months, width, height)
  pitch <- max(width, 150) + GAP # room for the words of a narrow map
  block <- rows * (CAPTION + height) + AXIS + if (shared) 0 else LEGEND
  maps <- expand.grid(row = seq_len(rows), month = seq_len(months))
  column <- (maps$month - 1) %% columns
  line <- (maps$month - 1) %/% columns
  maps$x <- LEFT + column * pitch
  maps$y <- TITLE + line * block + (maps$row - 1) * (CAPTION + height) + CAPTION
  maps$left <- column == 0
  maps$bottom <- maps$row == rows
  page <- list(maps = maps, map = c(width, height), columns = columns,
               width = max(520, LEFT + columns * pitch - GAP + RIGHT))
  bottom <- TITLE + max(line + 1) * block
  last <- maps[maps$bottom, ]
  page$legends <- if (shared) {
    length <- min(page$width - LEFT - RIGHT, 560)
    data.frame(x = LEFT, y = bottom + 8, length = length)
  } else {
    data.frame(x = last$x, y = last$y + height + AXIS + 8, length = max(width, 140))
  }
  page$foot <- bottom + if (shared) LEGEND + 4 else 4
  page$height <- page$foot + FOOT
  page
}

#' A picture: colour of the value times shade (1 on flat ground), north up.
picture <- function(z, breaks, colours, shade) {
  class <- findInterval(z, breaks, all.inside = TRUE)
  rgb_values <- col2rgb(colours[class]) / 255
  rgb_values[, is.na(class)] <- col2rgb(NO_DATA) / 255
  light <- round(16 * as.vector(shade)) / 16 # few steps keep the file small
  rgb_values <- pmin(sweep(rgb_values, 2, light, "*"), 1)
  image <- matrix(rgb(rgb_values[1, ], rgb_values[2, ], rgb_values[3, ]), nrow(z))
  image[nrow(image):1, , drop = FALSE]
}

#' Limits of a grid (m): west, east, south, north.
extent <- function(g) {
  half <- g$d / 2
  c(g$x - half, g$x + (ncol(g$z) - 0.5) * g$d, g$y - half, g$y + (nrow(g$z) - 0.5) * g$d)
}

#' One map with its upper left corner at x, y. A coarse grid is laid over the zone, without shade.
draw_map <- function(g, dem, shade, breaks, colours, at, size, caption) {
  zone <- extent(dem)
  px <- function(east) at$x + size[1] * (east - zone[1]) / (zone[2] - zone[1])
  py <- function(north) at$y + size[2] * (zone[4] - north) / (zone[4] - zone[3])
  if (!identical(dim(g$z), dim(dem$z))) shade <- matrix(1, nrow(g$z), ncol(g$z))
  clip(at$x, at$x + size[1], at$y + size[2], at$y)
  sides <- extent(g)
  rasterImage(picture(g$z, breaks, colours, shade), px(sides[1]), py(sides[3]), px(sides[2]), py(sides[4]),
              interpolate = FALSE)
  do.call(clip, as.list(par("usr")))
  rect(at$x, at$y + size[2], at$x + size[1], at$y, border = "grey25")
  text(at$x, at$y - 11, caption, adj = c(0, 0.5), font = 2, cex = 0.85)
  ticks <- function(from, to, pixels) {
    values <- pretty(c(from, to) / 1000, max(2, pixels %/% 80))
    values[values * 1000 >= from & values * 1000 <= to]
  }
  if (at$bottom) for (km in ticks(zone[1], zone[2], size[1])) {
    segments(px(1000 * km), at$y + size[2], y1 = at$y + size[2] + 4, col = "grey25")
    text(px(1000 * km), at$y + size[2] + 13, km, cex = 0.65, col = "grey25")
  }
  if (at$left) for (km in ticks(zone[3], zone[4], size[2])) {
    segments(at$x - 4, py(1000 * km), at$x, col = "grey25")
    text(at$x - 11, py(1000 * km), km, cex = 0.65, col = "grey25", srt = 90)
  }
}

#' A colour scale; its ends are pointed where values lie beyond.
draw_legend <- function(at, breaks, colours, unit, beyond) {
  n <- length(colours)
  high <- 14
  px <- function(value) at$x + 10 + (at$length - 20) * (value - breaks[1]) / (breaks[n + 1] - breaks[1])
  rect(px(breaks[-n - 1]), at$y + high, px(breaks[-1]), at$y, col = colours, border = NA)
  middle <- at$y + high / 2
  ends <- px(breaks[c(1, n + 1)])
  tips <- ends + c(-9, 9) * beyond
  for (i in 1:2) {
    polygon(c(ends[i], tips[i], ends[i]), c(at$y, middle, at$y + high), col = colours[c(1, n)][i], border = NA)
  }
  polygon(c(ends[1], ends[2], tips[2], ends[2], ends[1], tips[1]),
          c(at$y, at$y, middle, at$y + high, at$y + high, middle), border = "grey25")
  labels <- pretty(range(breaks), max(2, at$length %/% 55))
  labels <- labels[labels >= breaks[1] & labels <= breaks[n + 1]]
  segments(px(labels), at$y + high, y1 = at$y + high + 4, col = "grey25")
  text(px(labels), at$y + high + 13, format(labels, trim = TRUE), cex = 0.75)
  fit_text(at$x + at$length / 2, at$y + high + 30, unit, at$length, adj = 0.5, cex = 0.75)
}

#' The largest round length (m) up to another: 1, 2 or 5 times a power of ten.
round_length <- function(most) {
  lengths <- as.vector(outer(c(1, 2, 5), 10^(0:7)))
  max(lengths[1], lengths[lengths <= most])
}

#' Scale bar and north arrow below the maps.
draw_foot <- function(page, metres, notes) {
  metres_per_pixel <- metres / page$map[1]
  bar <- round_length(metres_per_pixel * max(100, 0.4 * page$map[1]))
  length <- bar / metres_per_pixel
  y <- page$foot + 14
  fill <- rep_len(c("grey15", "white"), 4)
  x <- LEFT + length * (0:4) / 4
  rect(x[-5], y + 6, x[-1], y, col = fill, border = "grey15")
  unit <- if (bar < 1000) "m" else "km"
  many <- if (bar < 1000) bar else bar / 1000
  text(x[1], y + 16, "0", cex = 0.7)
  text(x[5], y + 16, paste(format(many), unit), cex = 0.7, adj = c(0.3, 0.5))
  north <- x[5] + 48
  polygon(north + c(0, 6, 0, -6), y + c(-9, 13, 8, 13), col = "grey15", border = NA)
  text(north, y + 21, "N", cex = 0.7, font = 2)
  room <- page$width - RIGHT - north - 24
  for (i in seq_along(notes))
    fit_text(page$width - RIGHT, y + 3 + 15 * (i - 1), notes[i], room, adj = 1, cex = 0.65, col = "grey35")
}

#' Text of a size that fits into so many pixels.
fit_text <- function(x, y, words, room, adj = 0, cex = 1, ...) {
  cex <- cex * min(1, room / strwidth(words, cex = cex, ...))
  text(x, y, words, adj = c(adj, 0.5), cex = cex, ...)
}

#' The whole page.
#' @param rows list of lists of grids: rows[[kind]][[month]]
#' @param dem the relief, thinned as the fine grids are
#' @param months names
#' @param width,height the most that one map may have
#' @param cells names of the kinds' cell sizes
map_page <- function(path, rows, dem, style, months, width, height, cells) {
  zoom <- max(1, floor(min(width / ncol(dem$z), height / nrow(dem$z))))
  # Twelve scales would be twelve riddles: many months share one in any case.
  shared <- style$shared || length(months) > 4
  page <- page_layout(zoom * ncol(dem$z), zoom * nrow(dem$z), length(months), length(rows), shared)
  breaks <- month_breaks(rows, style, shared)
  shade <- 1 + style$shade * (hillshade(dem) - sin(pi / 4)) # flat ground keeps its colour
  png(path, page$width, page$height, res = INCH, type = "cairo")
  on.exit(dev.off())
  par(mar = c(0, 0, 0, 0), bg = "white", lwd = 1)
  plot.new()
  plot.window(c(0, page$width), c(page$height, 0), xaxs = "i", yaxs = "i")
  room <- page$width - LEFT - RIGHT
  fit_text(LEFT, 22, style$title, room, cex = 1.15, font = 2)
  fit_text(LEFT, 43, style$note, room, cex = 0.8, col = "grey35")
  for (i in seq_len(nrow(page$maps))) {
    at <- page$maps[i, ]
    edges <- breaks[[at$month]]
    draw_map(rows[[at$row]][[at$month]], dem, shade, edges, class_colours(edges, style), at, page$map,
             if (length(rows) > 1) paste0(months[at$month], ", ", cells[at$row]) else months[at$month])
  }
  for (i in seq_len(nrow(page$legends))) {
    edges <- breaks[[i]]
    values <- range(unlist(lapply(rows, function(row) lapply(if (shared) row else row[i], `[[`, "z"))), na.rm = TRUE)
    beyond <- c(values[1] < edges[1], values[2] > edges[length(edges)])
    draw_legend(page$legends[i, ], edges, class_colours(edges, style), style$unit, beyond)
  }
  draw_foot(page, diff(extent(dem)[1:2]), foot_notes(dem, cells[length(cells)]))
  invisible(page)
}

foot_notes <- function(dem, cell) {
  drawn <- if (dem$step > 1) paste0(", one of ", dem$step, " x ", dem$step, " drawn") else ""
  c(paste0("Cells of ", cell, drawn, if (anyNA(dem$z)) "; grey: no relief"),
    "Coordinates in km, grid north up; relief lit from the north-west")
}

cell_name <- function(d) if (d >= 500) sprintf("%.1f km", d / 1000) else sprintf("%g m", d)
