rule mosaic:
    input:
        dem=multiext("results/relief/dem", *GRID),
        tiles=tiles_of,
        lib=lib("grid", "tiles", "job"),
    output:
        mosaic=multiext("results/mosaics/{month}/{variable}", *GRID),
    log:
        "logs/mosaic/{month}/{variable}.log",
    resources:
        mem_mb=1000,
    params:
        unit=lambda wildcards: VARIABLES[wildcards.variable],
    script:
        "../scripts/mosaic.R"


rule draw_map:
    input:
        dem=multiext("results/relief/dem", *GRID),
        fine=map_grids,
        coarse=map_coarse_grids,
        lib=lib("grid", "maps", "job"),
    output:
        map="results/maps/{map}.png",
    log:
        "logs/draw_map/{map}.log",
    wildcard_constraints:
        map="|".join(MAPS),
    resources:
        mem_mb=1000,
    params:
        style=lambda wildcards: (
            "temperature" if wildcards.map == "downscaling" else wildcards.map
        ),
        months=sorted(config["months"]),
        width=config["map_width"],
    script:
        "../scripts/map.R"
