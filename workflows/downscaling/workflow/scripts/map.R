# A page of maps: one row per kind of grid (e.g. 1 km, downscaled), one column per month.
for (file in snakemake@input[["lib"]]) source(file)

open_log(snakemake@log[[1]])
params <- snakemake@params
dem <- read_grid(snakemake@input[["dem"]])
data_of <- function(name) lapply(grep("\\.sdat$", snakemake@input[[name]], value = TRUE), read_grid)
rows <- lapply(c("coarse", "fine"), data_of)
rows <- rows[lengths(rows) > 0]
style <- STYLES[[params[["style"]]]]
title <- if (length(rows) > 1) paste0(style$title, ", before and after downscaling") else style$title
map_page(snakemake@output[["map"]], rows, dem, style, title, month.name[params[["months"]]], params[["width"]])
