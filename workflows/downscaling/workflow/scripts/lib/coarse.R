# Between the fine cells and the kilometre grid of the climate.

#' Sums over blocks of f x f cells, and the number of cells that have a value.
block_sums <- function(z, f) {
  total <- function(z) {
    by_row <- rowsum(z, rep(seq_len(nrow(z) / f), each = f))
    unname(t(rowsum(t(by_row), rep(seq_len(ncol(z) / f), each = f))))
  }
  there <- !is.na(z)
  z[!there] <- 0
  list(total = total(z), count = total(there + 0))
}

#' Values of a coarse grid at the cells of a fine one: natural splines along the rows,
#' then along the columns. All tiles use the whole coarse grid, so they agree exactly.
refine <- function(coarse, fine) {
  along <- function(at, values, to) splinefun(at, values, "natural")(to)
  rows <- t(apply(coarse$z, 1, function(v) along(eastings(coarse), v, eastings(fine))))
  apply(rows, 2, function(v) along(northings(coarse), v, northings(fine)))
}
