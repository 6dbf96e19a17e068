rule flat_reference:
    input:
        dem=multiext("results/relief/dem", *GRID),
        lib=lib("grid", "saga", "sun", "job"),
    output:
        flat="results/flat/{month}/flat.tsv",
    log:
        "logs/flat_reference/{month}.log",
    resources:
        mem_mb=600,
    params:
        site=site(),
        year=config["year"],
    script:
        "../scripts/flat_reference.R"


# The long rule: days or weeks on a large zone. bash -> R -> sh -> saga_cmd.
# SAGA writes its log a line per half hour of the month: the last line is where it is.
# R keeps its script open, so do not edit the scripts while a checkpoint of this job exists.
rule radiation:
    input:
        dem=multiext("results/relief/dem", *GRID),
        script=script_file("radiation.R"),
        lib=lib("grid", "tiles", "saga", "sun", "job"),
    output:
        direct=multiext("results/radiation/{month}/{tile}/direct", *GRID),
        diffuse=multiext("results/radiation/{month}/{tile}/diffuse", *GRID),
    log:
        "logs/radiation/{month}/{tile}.log",
    benchmark:
        "benchmarks/radiation/{month}/{tile}.tsv"
    threads: 1
    resources:
        mem_mb=config["radiation_mem_mb"],
    params:
        **site(),
        tiles=config["tiles"],
        year=config["year"],
        halo=config["halo"],
        directions=config["sky_directions"],
    shell:
        ": > {log}; "
        "Rscript --vanilla {input.script} dem={input.dem[0]} "
        "tile={wildcards.tile} tiles={params.tiles} "
        "year={params.year} month={wildcards.month} "
        "latitude={params.latitude} halo={params.halo} "
        "directions={params.directions} hour_step={params.hour_step} "
        "transmittance={params.transmittance} direct={output.direct[0]} "
        "diffuse={output.diffuse[0]} log={log} < /dev/null >> {log} 2>&1"
