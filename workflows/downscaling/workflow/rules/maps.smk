rule mosaic:
    input:
        dem=multiext("results/relief/dem", *GRID),
        tiles=tiles_of,
        lib=lib("grid", "bands", "tiles", "job"),
    output:
        mosaic=multiext("results/mosaics/{month}/{variable}", *GRID),
    log:
        "logs/mosaic/{month}/{variable}.log",
    resources:
        **needs("mosaic"),
    params:
        unit=lambda wildcards: VARIABLES[wildcards.variable],
    script:
        "../scripts/mosaic.R"


rule draw_map:
    input:
        dem=multiext("results/relief/dem", *GRID),
        fine=map_fine_grids,
        coarse=map_coarse_grids,
        lib=lib("grid", "physics", "palettes", "thinned", "maps", "job"),
    output:
        map=report(
            "results/maps/{map}.png",
            caption="../report/map.rst",
            category=map_category,
            labels=map_labels,
        ),
    log:
        "logs/draw_map/{map}.log",
    wildcard_constraints:
        map="|".join(MAPS),
    resources:
        mem_mb=1000,
    params:
        months=[int(month) for month in MONTHS],
        width=config["map_width"],
        sun_coefficient=config["sun_coefficient"],
        leaf_area_ratio=config["leaf_area_ratio"],
    script:
        "../scripts/map.R"
