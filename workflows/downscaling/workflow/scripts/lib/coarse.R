# Between the fine cells and the kilometre grid of the climate.

#' Means over blocks of f x f cells. Blocks without any relief take the mean of all:
#' their cells are NoData in the end, but splines need a value.
block_means <- function(g, f) {
  rows <- nrow(g$z) %/% f
  columns <- ncol(g$z) %/% f
  if (rows < 2 || columns < 2) stop("the zone has less than 2 x 2 blocks of ", f * g$d, " m")
  sums <- block_sums(g$z[seq_len(rows * f), seq_len(columns * f)], f)
  mean <- sums$total / sums$count
  mean[sums$count == 0] <- sum(sums$total) / sum(sums$count)
  grid(mean, g$x + (f - 1) / 2 * g$d, g$y + (f - 1) / 2 * g$d, f * g$d, g$prj)
}

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
