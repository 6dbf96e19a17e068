# Radiation of a month on flat open ground, at six heights over the relief's range:
# what a slope is compared with. The air is thinner above, so height matters.
for (file in snakemake@input[["lib"]]) source(file)

log <- open_log(snakemake@log[[1]])
out <- snakemake@output[["flat"]]
month <- as.integer(snakemake@wildcards[["month"]])
range <- range(read_grid(snakemake@input[["dem"]])$z, na.rm = TRUE)
heights <- seq(100 * floor(range[1] / 100), 100 * (floor(range[2] / 100) + 1), length.out = 6)

scratch <- scratch_folder(out)
at_height <- function(height) {
  name <- function(what) file.path(scratch, paste0(what, ".sgrd"))
  write_grid(grid(matrix(height, 3, 3), d = 100), name("dem"), unit = "m")
  sun_of_month(name("dem"), NULL, name("direct"), name("diffuse"), snakemake@params[["year"]], month,
               snakemake@params[["site"]], log)
  middle <- function(what) read_grid(name(what))$z[2, 2]
  data.frame(height_m = height, direct = middle("direct"), diffuse = middle("diffuse"))
}
flat <- do.call(rbind, lapply(heights, at_height))
if (any(flat$direct <= 0)) stop("no direct light on flat ground in month ", month, ": a polar night has no quotient")
write_table(flat, out)
