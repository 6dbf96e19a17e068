# The tiles of one variable and month put together.
for (file in snakemake@input[["lib"]]) source(file)

open_log(snakemake@log[[1]])
zone <- read_grid(snakemake@input[["dem"]])
z <- zone$z
z[] <- NA
tiles <- grep("\\.sdat$", snakemake@input[["tiles"]], value = TRUE)
for (path in tiles) {
  name <- regmatches(path, regexpr("r[0-9]+c[0-9]+", path))
  cells <- tile_cells(name, dim(z), sqrt(length(tiles)))
  z[cells$rows, cells$columns] <- read_grid(path)$z
}
if (!identical(is.na(z), is.na(zone$z))) stop("the mosaic has holes where there is relief, or values where there is none")
zone$z <- z
write_grid(zone, snakemake@output[["mosaic"]], unit = snakemake@params[["unit"]])
