rule import_relief:
    input:
        dem=DEM,
        lib=lib("grid", "saga", "coarse", "job"),
    output:
        dem=multiext("results/relief/dem", *GRID),
        coarse=multiext("results/relief/dem_1km", *GRID),
    log:
        "logs/import_relief.log",
    resources:
        mem_mb=1000,
    params:
        cell=config["cell"],
        crs=config["crs"],
        crop_nodata=config["crop_nodata"],
    script:
        "../scripts/import_relief.R"
