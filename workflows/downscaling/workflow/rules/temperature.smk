# Fields of the user's own, brought to the workflow's kilometre grid. Their checks come first.
rule import_fields:
    input:
        coarse=multiext("results/relief/dem_1km", *GRID),
        temperature=lambda wildcards: TEMPERATURES.get(wildcards.month, []),
        cloud_cover=lambda wildcards: CLOUDS.get(wildcards.month, []),
        elevation=ELEVATION,
        lib=lib("grid", "checks", "fields", "job"),
    output:
        temperature=FIELD_GRIDS["temperature"],
        cloud_cover=FIELD_GRIDS["cloud_cover"],
        elevation=FIELD_GRIDS["elevation"],
        checked="results/fields/{month}/checked.tsv",
    log:
        "logs/import_fields/{month}.log",
    resources:
        **needs("import_fields"),
    params:
        crs=config["crs"],
        temperature_unit=config["temperature_unit"],
        cloud_unit=config["cloud_unit"],
    script:
        "../scripts/import_fields.R"


rule check_stations:
    input:
        coarse=multiext("results/relief/dem_1km", *GRID),
        stations=STATIONS,
        lib=lib("grid", "climate", "job"),
    output:
        checked="results/climate/stations.tsv",
    log:
        "logs/check_stations.log",
    resources:
        **needs("climate"),
    params:
        months=MONTHS,
    script:
        "../scripts/check_stations.R"


rule climate:
    input:
        coarse=multiext("results/relief/dem_1km", *GRID),
        stations=STATIONS,
        field=FIELD_GRIDS["temperature"],
        elevation=FIELD_GRIDS["elevation"],
        lib=lib("grid", "climate", "job"),
    output:
        temperature=multiext("results/climate/{month}/temperature", *GRID),
        lapse="results/climate/{month}/lapse.tsv",
    log:
        "logs/climate/{month}.log",
    resources:
        **needs("climate"),
    params:
        lapse_rates=config["lapse_rates"],
    script:
        "../scripts/climate.R"


rule temperature:
    input:
        dem=multiext("results/relief/dem", *GRID),
        coarse=COARSE_HEIGHTS,
        clouds=FIELD_GRIDS["cloud_cover"],
        temperature=multiext("results/climate/{month}/temperature", *GRID),
        lapse="results/climate/{month}/lapse.tsv",
        flat="results/flat/{month}/flat.tsv",
        direct=multiext("results/radiation/{month}/{tile}/direct", *GRID),
        diffuse=multiext("results/radiation/{month}/{tile}/diffuse", *GRID),
        lib=lib("grid", "bands", "tiles", "coarse", "physics", "job"),
    output:
        temperature=multiext("results/temperature/{month}/{tile}/temperature", *GRID),
        quotient=multiext("results/temperature/{month}/{tile}/quotient", *GRID),
        sun=multiext("results/temperature/{month}/{tile}/sun", *GRID),
    log:
        "logs/temperature/{month}/{tile}.log",
    resources:
        **needs("temperature"),
    params:
        tiles=list(COUNTS),
        cloud_cover=cloud_number,
        sun_coefficient=config["sun_coefficient"],
        leaf_area_ratio=config["leaf_area_ratio"],
    script:
        "../scripts/temperature.R"
