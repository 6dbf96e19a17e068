# What the rules share: names, units and the way to files of the workflow.

# A grid of SAGA is three files: data, header, projection.
GRID = (".sdat", ".sgrd", ".prj")

MONTHS = [f"{month:02d}" for month in sorted(config["months"])]
TILES = [
    f"r{row}c{column}"
    for row in range(1, config["tiles"] + 1)
    for column in range(1, config["tiles"] + 1)
]

# Mosaics and their units.
VARIABLES = {
    "direct": "kWh/m2",
    "diffuse": "kWh/m2",
    "sun": "kWh/m2",
    "quotient": "",
    "temperature": "C",
}
MAPS = ["temperature", "sun", "quotient", "downscaling"]


wildcard_constraints:
    month=r"\d{2}",
    tile=r"r\d+c\d+",
    variable="|".join(VARIABLES),


def configured_file(key):
    """Find a file named in the configuration: in the run directory, else in the workflow."""
    name = Path(config[key])
    for candidate in (name, Path(workflow.basedir).parent / name):
        if candidate.is_file():
            return str(candidate)
    raise WorkflowError(
        f"config: {key}: no file {name}, neither in the run directory "
        f"{Path.cwd()} nor in the workflow"
    )


def script_file(name):
    """Path of a script that a shell command runs."""
    return str(Path(workflow.basedir) / "scripts" / name)


def lib(*names):
    """Paths of shared R code. As inputs: a change of theirs makes results outdated."""
    return [script_file(f"lib/{name}.R") for name in names]


def site():
    """Settings of the sun, the same for slopes and for the flat ground they are compared with."""
    return {
        "latitude": config["latitude"],
        "hour_step": config["hour_step"],
        "transmittance": config["transmittance"],
    }


def tiles_of(wildcards):
    """All tiles of a mosaic; radiation and temperature lie in folders of their own."""
    stage = (
        "radiation" if wildcards.variable in ("direct", "diffuse") else "temperature"
    )
    return [
        f"results/{stage}/{wildcards.month}/{tile}/{wildcards.variable}{extension}"
        for tile in TILES
        for extension in GRID
    ]


def mosaics(variable):
    """The mosaics of a variable, month after month."""
    return [
        f"results/mosaics/{month}/{variable}{extension}"
        for month in MONTHS
        for extension in GRID
    ]


def map_grids(wildcards):
    """What a map shows: a variable of its own name, or the temperature before and after."""
    variable = "temperature" if wildcards.map == "downscaling" else wildcards.map
    return mosaics(variable)


def map_coarse_grids(wildcards):
    """The kilometre grids above the fine ones, for the map that compares them."""
    if wildcards.map != "downscaling":
        return []
    return [
        f"results/climate/{month}/temperature{extension}"
        for month in MONTHS
        for extension in GRID
    ]


DEM = configured_file("dem")
STATIONS = configured_file("stations")
