# What the rules share: names, units and the way to files of the workflow.
import sys

sys.path.insert(0, str(Path(workflow.basedir) / "scripts"))
import estimate

# A grid of SAGA is three files: data, header, projection.
GRID = (".sdat", ".sgrd", ".prj")

MONTHS = [f"{month:02d}" for month in sorted(config["months"])]
COUNTS = estimate.tile_counts(config)
TILES = estimate.tiles_of(config)

# Mosaics and their units.
VARIABLES = {
    "direct": "kWh/m2",
    "diffuse": "kWh/m2",
    "sun": "kWh/m2",
    "quotient": "",
    "temperature": "C",
}


wildcard_constraints:
    month=r"\d{2}",
    tile=r"r\d+c\d+",
    variable="|".join(VARIABLES),


def found_file(name, key):
    """Find a file named in the configuration: in the run directory, else in the workflow."""
    for candidate in (Path(name), Path(workflow.basedir).parent / name):
        if candidate.is_file():
            return str(candidate)
    raise WorkflowError(
        f"config: {key}: no file {name}, neither in the run directory "
        f"{Path.cwd()} nor in the workflow"
    )


def configured_file(key):
    """A file that the configuration names; none when it names none."""
    return found_file(config[key], key) if config[key] else []


def monthly_files(key):
    """Files of the months: {month} in a path, or a list of twelve; none for other values."""
    value = config[key]
    if isinstance(value, str):
        value = [value.replace("{month}", f"{month:02d}") for month in range(1, 13)]
    if not value or not isinstance(value[0], str):
        return {}
    return {month: found_file(value[int(month) - 1], key) for month in MONTHS}


def script_file(name):
    """Path of a script that a shell command runs."""
    return str(Path(workflow.basedir) / "scripts" / name)


def lib(*names):
    """Paths of shared R code. As inputs: a change of theirs makes results outdated."""
    return [script_file(f"lib/{name}.R") for name in names]


def site():
    """Settings of the sun, the same for slopes and for the flat ground they are compared with."""
    return {
        "hour_step": config["hour_step"],
        "transmittance": config["transmittance"],
    }


def needs(rule):
    """Resources of a rule by the measured model (scripts/estimate.py).

    `runtime` (minutes, of a segment) only with `walltime` in the configuration:
    it goes before a profile's --ckpt-walltime.
    """

    def place(wildcards):
        return {"tile": wildcards.tile} if hasattr(wildcards, "tile") else {}

    def memory(wildcards):
        return estimate.rule_mb(config, ZONE, rule, **place(wildcards))

    def runtime(wildcards):
        month = {"month": int(wildcards.month)} if hasattr(wildcards, "month") else {}
        return estimate.rule_minutes(config, ZONE, rule, **place(wildcards), **month)

    return {"mem_mb": memory} | ({"runtime": runtime} if config["walltime"] else {})


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


def grid_files(stem):
    """The three files of a grid."""
    return [stem + extension for extension in GRID]


def cloud_number(wildcards):
    """The month's cloud cover (0-1), when it is one number."""
    return "" if CLOUDS else config["cloud_cover"][int(wildcards.month) - 1]


DEM = configured_file("dem")
STATIONS = configured_file("stations")
TEMPERATURES = monthly_files("temperature")
ELEVATION = configured_file("temperature_elevation")
CLOUDS = monthly_files("cloud_cover")
ZONE = estimate.zone_of(config, Path(DEM))

# What lies around the zone is a grid of its own when the zone is cut out of more.
AROUND = grid_files("results/relief/around") if config["extent"] else []
LATITUDES = ["results/relief/latitudes.tsv"] if config["latitude"] == "row" else []
# The user's own data are all looked at before anything long begins.
FIELD_GRIDS = {
    name: grid_files(f"results/fields/{{month}}/{name}") if files else []
    for name, files in (
        ("temperature", TEMPERATURES),
        ("elevation", TEMPERATURES),
        ("cloud_cover", CLOUDS),
    )
}
CHECKS = ["results/climate/stations.tsv"] if STATIONS else []
if TEMPERATURES or CLOUDS:
    CHECKS += [f"results/fields/{month}/checked.tsv" for month in MONTHS]
# Radiation does not depend on what is in them: other stations do not compute it again.
CHECKED = [ancient(path) for path in CHECKS]
COARSE_HEIGHTS = FIELD_GRIDS["elevation"] or grid_files("results/relief/dem_1km")
