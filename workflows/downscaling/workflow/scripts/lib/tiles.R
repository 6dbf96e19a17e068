# Tiles: the zone is cut into rows and columns of rectangles named r<row>c<column>, r1c1 in the
# south-west. A tile is computed with a halo of neighbours (tile_window()), so that mountains
# outside it cast their shadows into it.

#' Rows and columns of a tile in the zone.
#' @param name e.g. "r1c2"
#' @param size rows and columns of the zone
#' @param n tiles per side, or rows and columns of tiles
#' @return list of rows, columns
tile_cells <- function(name, size, n) {
  n <- rep(n, length.out = 2)
  if (any(size < n)) stop(n[1], " x ", n[2], " tiles are too many for ", size[1], " x ", size[2], " cells")
  place <- as.integer(strsplit(sub("^r", "", name), "c")[[1]])
  span <- function(cells, i, n) {
    first <- round(cells * (i - 1) / n) + 1
    last <- round(cells * i / n)
    first:last
  }
  list(rows = span(size[1], place[1], n[1]), columns = span(size[2], place[2], n[2]))
}

#' The row of tiles, from the south, that a tile is in.
tile_row <- function(name) as.integer(sub("^r([0-9]+)c.*", "\\1", name))

#' Tiles per side from "2" or, rows and columns, "3x2".
tile_counts <- function(text) {
  counts <- suppressWarnings(as.numeric(strsplit(as.character(text), "x")[[1]]))
  if (anyNA(counts) || !length(counts) %in% 1:2) stop("tiles=", text, " is not a number, or two as 3x2")
  rep(counts, length.out = 2)
}

#' Latitude (degrees) of a row of tiles: a number that holds for all, or a table with columns row, latitude.
latitude_of <- function(value, row) {
  number <- suppressWarnings(as.numeric(value))
  if (!is.na(number)) return(number)
  if (!file.exists(value)) stop("latitude=", value, " is neither a number nor a table of latitudes")
  table <- read.table(value, header = TRUE, sep = "\t")
  latitude <- table$latitude[table$row == row]
  if (length(latitude) != 1) stop(value, ": no latitude for row ", row, " of the tiles")
  latitude
}
