# Mean temperature of a month at about 1 km from station normals, a stand-in for a
# gridded climatology: a straight line on height (its slope is the lapse rate), plus
# what the stations differ from it, spread by weights 1 / (distance^2 + smooth^2).
for (file in snakemake@input[["lib"]]) source(file)

open_log(snakemake@log[[1]])
smooth <- 5000 # m: within this distance no station has the word alone
relief <- read_grid(snakemake@input[["coarse"]])
stations <- read.table(snakemake@input[["stations"]], header = TRUE, sep = "\t")
month <- paste0("t", snakemake@wildcards[["month"]])
missing <- setdiff(c("x", "y", "elevation", month), names(stations))
if (length(missing)) stop(snakemake@input[["stations"]], ": no column ", paste(missing, collapse = ", "))
stations <- stations[complete.cases(stations[c("x", "y", "elevation", month)]), ]
if (nrow(stations) < 5) stop("a lapse rate needs at least 5 stations, there are ", nrow(stations))

fit <- lm(stations[[month]] ~ stations$elevation)
line <- unname(coef(fit))
x <- rep(eastings(relief), each = nrow(relief$z))
y <- rep(northings(relief), ncol(relief$z))
weights <- 1 / (outer(x, stations$x, "-")^2 + outer(y, stations$y, "-")^2 + smooth^2)
residual <- rowSums(weights * rep(resid(fit), each = length(x))) / rowSums(weights)

temperature <- relief
temperature$z <- line[1] + line[2] * relief$z + matrix(residual, nrow(relief$z))
write_grid(temperature, snakemake@output[["temperature"]], unit = "C")
write_table(data.frame(
  stations = nrow(stations), sea_level_C = line[1], lapse_K_per_m = -line[2],
  r_squared = summary(fit)$r.squared, residual_sd_K = sd(resid(fit))
), snakemake@output[["lapse"]])
say("month %s: %.2f K/km from %d stations", snakemake@wildcards[["month"]], -1000 * line[2], nrow(stations))
