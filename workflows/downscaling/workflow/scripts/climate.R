# Mean temperature of a month at about 1 km and its lapse rate. The temperature is a field of the user's own, or from
# station normals, a stand-in for one: a straight line on height (its slope is the lapse rate), plus what the stations
# differ from it. The lapse rate is that of the stations, of the field on its own elevation, or given.
for (file in snakemake@input[["lib"]]) source(file)

open_log(snakemake@log[[1]])
input <- snakemake@input
number <- snakemake@wildcards[["month"]]
rates <- unlist(snakemake@params[["lapse_rates"]])
given <- if (is.numeric(rates)) rates[as.integer(number)] / 1000 # K/km to K/m
month <- paste0("t", number)
stations <- if (length(input[["stations"]])) read_stations(input[["stations"]], month, grid_frame(input[["coarse"]]))
own_field <- length(input[["field"]]) > 0

if (own_field) {
  temperature <- read_grid(input[["field"]])
  from <- if (identical(rates, "stations")) list(stations[[month]], stations$elevation) else
    list(as.vector(temperature$z), as.vector(read_grid(input[["elevation"]])$z))
  fit <- fit_line(from[[1]], from[[2]], given)
} else {
  relief <- read_grid(input[["coarse"]])
  fit <- fit_line(stations[[month]], stations$elevation, given)
  temperature <- relief
  temperature$z <- fit$line[1] + fit$line[2] * relief$z + spread(relief, stations, fit$residual)
}
write_grid(temperature, snakemake@output[["temperature"]], unit = "C")
write_table(data.frame(
  stations = length(stations[[month]]), sea_level_C = fit$line[1], lapse_K_per_m = -fit$line[2],
  r_squared = fit$r_squared, residual_sd_K = sd(fit$residual)
), snakemake@output[["lapse"]])
say("month %s: %.2f K/km from %d values", number, -1000 * fit$line[2], length(fit$residual))
