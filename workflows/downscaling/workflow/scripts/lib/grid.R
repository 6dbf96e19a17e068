# SAGA's binary grids in base R: a text header (.sgrd), the map projection (.prj)
# and raw little-endian float32 rows from south to north (.sdat).
#
# A grid is a list: z  matrix of values, z[1, ] the southernmost row, NA = NoData
#                   x, y  centre of the lower left cell (m)
#                   d  cell size (m)
#                   prj  well known text of the projection, or NULL

NODATA <- -99999

grid <- function(z, x = 0, y = 0, d = 1, prj = NULL) list(z = z, x = x, y = y, d = d, prj = prj)

#' The path of a grid without its extension: any of its files names it.
stem <- function(path) sub("\\.(sdat|sgrd|prj)$", "", path[1])

stem_all <- function(paths) vapply(paths, stem, "", USE.NAMES = FALSE)

#' Centres of the columns and of the rows (m).
eastings <- function(g) g$x + g$d * (seq_len(ncol(g$z)) - 1)
northings <- function(g) g$y + g$d * (seq_len(nrow(g$z)) - 1)

#' The header as a named character vector.
#' SAGA 9.8 writes stray bytes in its UNIT line, so keys are looked for anywhere in a line.
read_header <- function(path) {
  lines <- readLines(paste0(stem(path), ".sgrd"), skipNul = TRUE, warn = FALSE)
  lines <- iconv(lines, "latin1", "ASCII", sub = "?")
  keys <- c("DATAFORMAT", "BYTEORDER_BIG", "TOPTOBOTTOM", "POSITION_XMIN", "POSITION_YMIN",
            "CELLCOUNT_X", "CELLCOUNT_Y", "CELLSIZE", "NODATA_VALUE")
  value <- function(key) {
    pattern <- paste0(key, "\t= *")
    trimws(sub(paste0(".*", pattern), "", grep(pattern, lines, value = TRUE)[1]))
  }
  vapply(keys, value, "")
}

#' What the header and the projection say: x, y, d, prj as of a grid, and nx, ny columns and rows.
#' Stops when the data are shorter or longer than the header says (SAGA itself reads a truncated file without a word).
grid_frame <- function(path) {
  h <- read_header(path)
  data <- paste0(stem(path), ".sdat")
  nx <- as.numeric(h[["CELLCOUNT_X"]])
  ny <- as.numeric(h[["CELLCOUNT_Y"]])
  if (h[["DATAFORMAT"]] != "FLOAT" || h[["BYTEORDER_BIG"]] != "FALSE")
    stop(data, ": only little-endian FLOAT grids are read, not ", h[["DATAFORMAT"]])
  if (file.size(data) != 4 * nx * ny)
    stop(data, ": ", file.size(data), " bytes, but ", nx, " x ", ny, " cells need ", 4 * nx * ny)
  prj <- paste0(stem(path), ".prj")
  list(x = as.numeric(h[["POSITION_XMIN"]]), y = as.numeric(h[["POSITION_YMIN"]]), d = as.numeric(h[["CELLSIZE"]]),
       prj = if (file.exists(prj)) paste(readLines(prj, warn = FALSE), collapse = ""), nx = nx, ny = ny, data = data,
       down = h[["TOPTOBOTTOM"]] == "TRUE",
       nodata = range(as.numeric(strsplit(h[["NODATA_VALUE"]], ";")[[1]]))) # one value or a range "low;high"
}

#' Read a grid, or only some rows (from the south) and columns (from the west) of it:
#' no more than these are ever in memory.
read_grid <- function(path, rows = NULL, columns = NULL) {
  f <- grid_frame(path)
  if (is.null(rows)) rows <- seq_len(f$ny)
  if (is.null(columns)) columns <- seq_len(f$nx)
  z <- matrix(read_cells(f, rows, columns, "double"), length(rows), length(columns), byrow = TRUE)
  z[z >= f$nodata[1] & z <= f$nodata[2]] <- NA
  grid(z, f$x + (min(columns) - 1) * f$d, f$y + (min(rows) - 1) * f$d, f$d, f$prj)
}

#' The cells of a rectangle row by row from the south, as numbers or ("raw") as the file's own bytes.
#' @param rows,columns without gaps, ascending
read_cells <- function(frame, rows, columns, what) {
  con <- file(frame$data, "rb")
  on.exit(close(con))
  size <- if (what == "raw") 1L else 4L
  several <- length(columns) * (4 / size)
  one_row <- function(row) {
    if (frame$down) row <- frame$ny + 1 - row
    seek(con, 4 * ((row - 1) * frame$nx + columns[1] - 1))
    readBin(con, what, several, size = size, endian = "little")
  }
  unlist(lapply(rows, one_row))
}

#' Write a grid: .sdat, .sgrd and .prj, at their places only when all are complete. The same grid gives the same bytes.
write_grid <- function(g, path, unit = "") {
  part <- paste0(stem(path), ".part")
  writeBin(as_cells(g$z), paste0(part, ".sdat"), size = 4L, endian = "little")
  write_header(c(g[c("x", "y", "d", "prj")], nx = ncol(g$z), ny = nrow(g$z)), part, unit, basename(stem(path)))
  grid_frame(part) # a full disk shows here
  publish_grid(part, path)
}

#' A matrix as the values of a .sdat.
as_cells <- function(z) {
  z[is.na(z)] <- NODATA
  as.vector(t(z))
}

#' Write the .sgrd and the .prj beside a .sdat.
#' @param name what the grid calls itself
write_header <- function(frame, path, unit = "", name = basename(stem(path))) {
  base <- stem(path)
  write_lines(c(
    paste0("NAME\t= ", name), "DESCRIPTION\t= ", paste0("UNIT\t= ", unit),
    "DATAFORMAT\t= FLOAT", "DATAFILE_OFFSET\t= 0", "BYTEORDER_BIG\t= FALSE", "TOPTOBOTTOM\t= FALSE",
    sprintf("POSITION_XMIN\t= %.10f", frame$x), sprintf("POSITION_YMIN\t= %.10f", frame$y),
    paste0("CELLCOUNT_X\t= ", frame$nx), paste0("CELLCOUNT_Y\t= ", frame$ny),
    sprintf("CELLSIZE\t= %.10f", frame$d), "Z_FACTOR\t= 1.000000", sprintf("NODATA_VALUE\t= %.6f", NODATA)
  ), paste0(base, ".sgrd"))
  write_lines(if (is.null(frame$prj)) "" else frame$prj, paste0(base, ".prj"))
  invisible(path)
}

#' Write text; stops when not all of it arrives, of which R itself only warns.
write_lines <- function(lines, path) {
  writeLines(lines, path)
  if (file.size(path) != sum(nchar(lines, "bytes") + 1)) stop(path, ": not all was written; is the disk full?")
}

#' Move a finished grid into place, the data last: where the .sdat is, the rest is too.
publish_grid <- function(from, to) {
  for (extension in c(".prj", ".sgrd", ".sdat")) {
    if (!file.rename(paste0(stem(from), extension), paste0(stem(to), extension)))
      stop("cannot move ", stem(from), extension, " to ", stem(to), extension)
  }
}

#' The rows (from the south) and columns (from the west) of a grid, as a grid.
crop_grid <- function(g, rows, columns) {
  grid(g$z[rows, columns, drop = FALSE], g$x + (min(columns) - 1) * g$d, g$y + (min(rows) - 1) * g$d, g$d, g$prj)
}

#' Cut off the edge with the largest share of NoData until no edge has any: a
#' rectangle reprojected is a turned rectangle, with empty wedges along its sides.
#' Some relief goes with them (1 to 2 % of the example's); where more would go, it is no wedge but a coast.
crop_nodata <- function(g) {
  rows <- seq_len(nrow(g$z))
  columns <- seq_len(ncol(g$z))
  empty <- is.na(g$z)
  repeat {
    edges <- c(mean(empty[rows[1], columns]), mean(empty[rows[length(rows)], columns]),
               mean(empty[rows, columns[1]]), mean(empty[rows, columns[length(columns)]]))
    if (all(edges == 0)) break
    switch(which.max(edges),
           rows <- rows[-1], rows <- rows[-length(rows)],
           columns <- columns[-1], columns <- columns[-length(columns)])
    if (length(rows) * length(columns) < 0.5 * length(g$z))
      stop("less than half of the relief is left without NoData at its edges: set crop_nodata to false")
  }
  relief <- sum(!empty)
  cut <- relief - sum(!empty[rows, columns])
  say("crop_nodata: %d of %d cells with relief are cut off with the empty edges", cut, relief)
  if (cut > 0.05 * relief)
    stop("crop_nodata: ", cut, " of ", relief, " cells with relief would be cut off with the empty edges, more than 5 %; ",
         "set an extent, or allow_nodata: true if there is nothing to compute in the empty part, as in the sea")
  crop_grid(g, rows, columns)
}
