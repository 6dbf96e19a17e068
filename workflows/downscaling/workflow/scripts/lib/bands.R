# Grids of any size: read, computed and written some rows at a time.

BAND_CELLS <- 2e6 # about 16 MB a matrix

#' Rows first to last, in groups of at most so many cells.
bands <- function(rows, columns, cells = BAND_CELLS) {
  each <- max(1, floor(cells / columns))
  starts <- seq(rows[1], rows[length(rows)], by = each)
  lapply(starts, function(from) from:min(from + each - 1, rows[length(rows)]))
}

#' Part of a frame (see grid_frame): some rows and columns.
crop_frame <- function(frame, rows, columns) {
  frame$x <- frame$x + (min(columns) - 1) * frame$d
  frame$y <- frame$y + (min(rows) - 1) * frame$d
  frame$nx <- length(columns)
  frame$ny <- length(rows)
  frame
}

#' Write grids band by band, from the south to the north; at their places only when all are complete.
#' @param paths one or several grids
#' @param values function of a band's rows: a matrix or the raw bytes of the cells; of several grids: a list of these
write_bands <- function(frame, paths, values, units = "") {
  paths <- unique(stem_all(paths)) # a grid may be named by its three files
  parts <- paste0(paths, ".part")
  units <- rep(units, length.out = length(paths))
  files <- lapply(paste0(parts, ".sdat"), function(path) file(path, "wb"))
  on.exit(for (con in files) close(con))
  for (rows in bands(seq_len(frame$ny), frame$nx)) {
    z <- values(rows)
    if (length(paths) == 1) z <- list(z)
    for (i in seq_along(paths)) write_cells(z[[i]], files[[i]])
  }
  for (con in files) close(con)
  on.exit()
  for (i in seq_along(paths)) write_header(frame, parts[i], units[i], basename(paths[i]))
  for (part in parts) grid_frame(part) # a full disk shows here
  for (i in seq_along(paths)) publish_grid(parts[i], paths[i])
}

write_cells <- function(z, con) {
  if (is.raw(z)) writeBin(z, con) else writeBin(as_cells(z), con, size = 4L, endian = "little")
}

#' Copy rows and columns of a grid into a file of its own, bit by bit.
copy_window <- function(from, to, rows, columns, unit = "") {
  frame <- grid_frame(from)
  read <- function(band) read_cells(frame, rows[1] - 1 + band, columns, "raw")
  if (!identical(frame$nodata, rep(NODATA, 2)))
    read <- function(band) read_grid(from, rows[1] - 1 + band, columns)$z
  write_bands(crop_frame(frame, rows, columns), to, read, unit)
}

#' Heights of a grid and how many cells have none.
#' @return list of lowest, highest, missing
grid_summary <- function(path) {
  frame <- grid_frame(path)
  one <- function(rows) {
    z <- read_grid(path, rows)$z
    if (all(is.na(z))) c(Inf, -Inf, length(z)) else c(range(z, na.rm = TRUE), sum(is.na(z)))
  }
  all <- vapply(bands(seq_len(frame$ny), frame$nx), one, c(0, 0, 0))
  list(lowest = min(all[1, ]), highest = max(all[2, ]), missing = sum(all[3, ]))
}

#' Where a grid begins in another with the same cells: rows and columns to add.
offset_in <- function(inner, outer) {
  shift <- c((inner$y - outer$y) / outer$d, (inner$x - outer$x) / outer$d)
  if (inner$d != outer$d || any(abs(shift - round(shift)) > 1e-3)) stop("the grids' cells do not coincide")
  round(shift)
}

#' Rows and columns of a tile with its halo in a relief that reaches beyond the zone, as far as that goes.
#' @param tile list of rows, columns in the zone
tile_window <- function(tile, zone, around, halo) {
  shift <- offset_in(zone, around)
  span <- function(cells, shift, n) max(1, min(cells) + shift - halo):min(n, max(cells) + shift + halo)
  list(rows = span(tile$rows, shift[1], around$ny), columns = span(tile$columns, shift[2], around$nx))
}

#' Means over blocks of f x f cells of a grid on disk, band by band. What is left over in the north and east is in no
#' block. Blocks without any relief take the mean of all: their cells are NoData in the end, but splines need a value.
block_means_of <- function(path, f) {
  frame <- grid_frame(path)
  rows <- frame$ny %/% f
  columns <- frame$nx %/% f
  if (rows < 2 || columns < 2) stop("the zone has less than 2 x 2 blocks of ", f * frame$d, " m")
  each <- max(1, floor(BAND_CELLS / (frame$nx * f)))
  groups <- split(seq_len(rows), (seq_len(rows) - 1) %/% each)
  parts <- lapply(groups, function(r) {
    z <- read_grid(path, ((min(r) - 1) * f + 1):(max(r) * f), seq_len(columns * f))$z
    block_sums(z, f)
  })
  total <- do.call(rbind, lapply(parts, function(p) p$total))
  count <- do.call(rbind, lapply(parts, function(p) p$count))
  mean <- total / count
  mean[count == 0] <- sum(total) / sum(count)
  grid(mean, frame$x + (f - 1) / 2 * frame$d, frame$y + (f - 1) / 2 * frame$d, f * frame$d, frame$prj)
}
