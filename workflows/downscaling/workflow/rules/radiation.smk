rule flat_reference:
    input:
        summary="results/relief/summary.tsv",
        latitudes=LATITUDES,
        checked=CHECKED,
        lib=lib("grid", "saga", "sun", "job"),
    output:
        flat="results/flat/{month}/flat.tsv",
    log:
        "logs/flat_reference/{month}.log",
    resources:
        **needs("flat_reference"),
    params:
        site=site(),
        latitude=config["latitude"],
        year=config["year"],
    script:
        "../scripts/flat_reference.R"


# The long rule: days or weeks on a large zone. bash -> R -> sh -> saga_cmd.
# SAGA writes its log a line per half hour of the month: the last line is where it is.
# R keeps its script open, so do not edit the scripts while a checkpoint of this job exists.
rule radiation:
    input:
        dem=multiext("results/relief/dem", *GRID),
        around=AROUND,
        latitudes=LATITUDES,
        checked=CHECKED,
        script=script_file("radiation.R"),
        lib=lib("grid", "bands", "tiles", "saga", "sun", "job"),
    output:
        direct=multiext("results/radiation/{month}/{tile}/direct", *GRID),
        diffuse=multiext("results/radiation/{month}/{tile}/diffuse", *GRID),
    log:
        "logs/radiation/{month}/{tile}.log",
    benchmark:
        "benchmarks/radiation/{month}/{tile}.tsv"
    threads: 1
    resources:
        **needs("radiation"),
    params:
        **site(),
        latitude=LATITUDES or config["latitude"],
        around=f"around={AROUND[0]} " if AROUND else "",
        tiles="x".join(map(str, COUNTS)),
        year=config["year"],
        halo=config["halo"],
        directions=config["sky_directions"],
    shell:
        ": > {log}; "
        "Rscript --vanilla {input.script} dem={input.dem[0]} {params.around}"
        "tile={wildcards.tile} tiles={params.tiles} "
        "year={params.year} month={wildcards.month} "
        "latitude={params.latitude} halo={params.halo} "
        "directions={params.directions} hour_step={params.hour_step} "
        "transmittance={params.transmittance} direct={output.direct[0]} "
        "diffuse={output.diffuse[0]} log={log} < /dev/null >> {log} 2>&1"
