rule climate:
    input:
        coarse=multiext("results/relief/dem_1km", *GRID),
        stations=STATIONS,
        lib=lib("grid", "job"),
    output:
        temperature=multiext("results/climate/{month}/temperature", *GRID),
        lapse="results/climate/{month}/lapse.tsv",
    log:
        "logs/climate/{month}.log",
    resources:
        mem_mb=500,
    script:
        "../scripts/climate.R"


rule temperature:
    input:
        dem=multiext("results/relief/dem", *GRID),
        coarse=multiext("results/relief/dem_1km", *GRID),
        temperature=multiext("results/climate/{month}/temperature", *GRID),
        lapse="results/climate/{month}/lapse.tsv",
        flat="results/flat/{month}/flat.tsv",
        direct=multiext("results/radiation/{month}/{tile}/direct", *GRID),
        diffuse=multiext("results/radiation/{month}/{tile}/diffuse", *GRID),
        lib=lib("grid", "tiles", "coarse", "physics", "job"),
    output:
        temperature=multiext("results/temperature/{month}/{tile}/temperature", *GRID),
        quotient=multiext("results/temperature/{month}/{tile}/quotient", *GRID),
        sun=multiext("results/temperature/{month}/{tile}/sun", *GRID),
    log:
        "logs/temperature/{month}/{tile}.log",
    resources:
        mem_mb=1000,
    params:
        tiles=config["tiles"],
        cloud_cover=lambda wildcards: config["cloud_cover"][int(wildcards.month) - 1],
        sun_coefficient=config["sun_coefficient"],
        leaf_area_ratio=config["leaf_area_ratio"],
    script:
        "../scripts/temperature.R"
