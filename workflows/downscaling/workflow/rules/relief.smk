rule import_relief:
    input:
        dem=DEM,
        lib=lib("grid", "bands", "tiles", "saga", "coarse", "checks", "job"),
    output:
        dem=multiext("results/relief/dem", *GRID),
        around=AROUND,
        coarse=multiext("results/relief/dem_1km", *GRID),
        summary="results/relief/summary.tsv",
        latitudes="results/relief/latitudes.tsv",
    log:
        "logs/import_relief.log",
    resources:
        **needs("import_relief"),
    params:
        cell=config["cell"],
        crs=config["crs"],
        extent=config["extent"],
        halo=config["halo"],
        tiles=list(COUNTS),
        latitude=config["latitude"],
        crop_nodata=config["crop_nodata"],
        allow_nodata=config["allow_nodata"],
    script:
        "../scripts/import_relief.R"
