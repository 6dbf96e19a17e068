# The tiles of one variable and month put together, some rows at a time.
for (file in snakemake@input[["lib"]]) source(file)

open_log(snakemake@log[[1]])
dem <- grep("\\.sdat$", snakemake@input[["dem"]], value = TRUE)
zone <- grid_frame(dem)
tiles <- grep("\\.sdat$", snakemake@input[["tiles"]], value = TRUE)
names(tiles) <- regmatches(tiles, regexpr("r[0-9]+c[0-9]+", tiles))
columns_of_tiles <- sum(tile_row(names(tiles)) == 1)
counts <- c(length(tiles) / columns_of_tiles, columns_of_tiles)
cells <- lapply(names(tiles), tile_cells, size = c(zone$ny, zone$nx), n = counts)
for (i in seq_along(tiles)) {
  found <- grid_frame(tiles[i])
  if (found$ny != length(cells[[i]]$rows) || found$nx != length(cells[[i]]$columns))
    stop(tiles[i], ": not of the size of its place")
}

band <- function(rows) {
  z <- matrix(NA_real_, length(rows), zone$nx)
  for (i in seq_along(tiles)) {
    here <- intersect(rows, cells[[i]]$rows)
    if (length(here))
      z[match(here, rows), cells[[i]]$columns] <- read_grid(tiles[i], match(here, cells[[i]]$rows))$z
  }
  if (!identical(is.na(z), is.na(read_grid(dem, rows)$z)))
    stop("the mosaic has holes where there is relief, or values where there is none")
  z
}
write_bands(zone, snakemake@output[["mosaic"]], band, snakemake@params[["unit"]])
