# The pages of maps, and their places in the report.
MAPS = {
    "downscaling": {
        "variable": "temperature",
        "category": "Temperature",
        "label": "Before and after downscaling",
    },
    "temperature": {
        "variable": "temperature",
        "category": "Temperature",
        "label": "Month by month",
    },
    "sun_effect": {
        "variable": "quotient",
        "category": "Temperature",
        "label": "Effect of the sun",
    },
    "sun": {
        "variable": "sun",
        "category": "Radiation",
        "label": "Month by month",
    },
    "quotient": {
        "variable": "quotient",
        "category": "Radiation",
        "label": "Relative to flat open ground",
    },
}


def map_fine_grids(wildcards):
    """The downscaled grids of a map, month after month."""
    return expand(
        "results/mosaics/{month}/{variable}{extension}",
        month=MONTHS,
        variable=MAPS[wildcards.map]["variable"],
        extension=GRID,
    )


def map_coarse_grids(wildcards):
    """The climate's own grids, for the map that compares them with the downscaled ones."""
    if wildcards.map != "downscaling":
        return []
    return expand(
        "results/climate/{month}/temperature{extension}", month=MONTHS, extension=GRID
    )


def map_category(wildcards):
    """Where the report lists a map."""
    return MAPS[wildcards.map]["category"]


def map_labels(wildcards):
    """What the report calls a map: its name and its months, many of them as a range."""
    names = [calendar.month_name[int(month)] for month in MONTHS]
    months = ", ".join(names) if len(names) <= 3 else f"{names[0]} to {names[-1]}"
    return {"map": MAPS[wildcards.map]["label"], "months": months}
