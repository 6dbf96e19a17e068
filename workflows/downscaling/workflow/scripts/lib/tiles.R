# Tiles: the zone is cut into n x n rectangles named r<row>c<column>, r1c1 in the
# south-west. A tile is computed with a halo of neighbours, so that mountains
# outside it cast their shadows into it.

#' Rows and columns of a tile in the zone.
#' @param name e.g. "r1c2"
#' @param size rows and columns of the zone
#' @param n tiles per side
#' @param halo cells added around the tile, as far as the zone goes
#' @return list of rows, columns
tile_cells <- function(name, size, n, halo = 0) {
  if (any(size < n)) stop(n, " tiles per side are too many for ", size[1], " x ", size[2], " cells")
  place <- as.integer(strsplit(sub("^r", "", name), "c")[[1]])
  span <- function(cells, i) {
    first <- round(cells * (i - 1) / n) + 1 - halo
    last <- round(cells * i / n) + halo
    max(1, first):min(cells, last)
  }
  list(rows = span(size[1], place[1]), columns = span(size[2], place[2]))
}

#' Where a tile lies inside its own window with a halo.
inside <- function(tile, window) {
  list(rows = match(tile$rows, window$rows), columns = match(tile$columns, window$columns))
}
