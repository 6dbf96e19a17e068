# The configuration: where it is, what it must be.


def own_or_default(name):
    """A file of the run directory, or else that of the workflow."""
    own = Path(name)
    return str(own if own.is_file() else Path(workflow.basedir).parent / name)


def numbers(value):
    """Numbers in a list: --config "months=[1,2]" arrives as a list of strings."""
    if not isinstance(value, list):
        return value
    return [yaml.safe_load(item) if isinstance(item, str) else item for item in value]


def check(config):
    """Stop at a wrong value with a line that names it."""
    try:
        validate(config, Path(workflow.basedir) / "schemas/config.schema.yaml")
    except WorkflowError as error:
        detail = error.__context__
        if not hasattr(detail, "json_path"):
            raise
        place = detail.json_path.removeprefix("$").removeprefix(".")
        message = f"{place}: {detail.message}" if place else detail.message
        raise WorkflowError(f"config: {message}") from None
    for wrong in contradictions(config):
        raise WorkflowError(f"config: {wrong}")


def contradictions(config):
    """What a schema cannot say, one line each."""
    crs = dict(
        part.partition("=")[::2] for part in config["crs"].replace("+", "").split()
    )
    if crs.get("proj") in ("longlat", "latlong"):
        yield f"crs: {config['crs']} is in degrees; the results need one in metres, conformal: UTM"
    elif crs.get("units", "m") != "m" or "to_meter" in crs:
        yield f"crs: {config['crs']} is not in metres; the results need metres"
    if config["extent"]:
        west, east, south, north = config["extent"]
        if west >= east or south >= north:
            yield f"extent: {config['extent']} must be xmin, xmax, ymin, ymax in m, with xmin < xmax and ymin < ymax"
        for name, length in (
            ("xmax - xmin", east - west),
            ("ymax - ymin", north - south),
        ):
            if abs(length / config["cell"] - round(length / config["cell"])) > 1e-6:
                yield f"extent: {name} is {length:g} m, which is no whole number of cells of {config['cell']:g} m"
    for key in ("temperature", "cloud_cover"):
        if isinstance(config[key], str) and "{month}" not in config[key]:
            yield f"{key}: {config[key]} has no {{month}}, which stands for 01 to 12; or give a list of 12 files"
    if bool(config["stations"]) == bool(config["temperature"]) and not (
        config["stations"] and config["lapse_rates"] == "stations"
    ):
        yield "stations, temperature: give one of them (both only for lapse_rates: stations with temperature rasters)"
    if config["temperature"] and not config["temperature_elevation"]:
        yield "temperature_elevation: missing; it is the elevation (m) that the rasters of temperature hold for"
    if config["lapse_rates"] == "fields" and not config["temperature"]:
        yield "lapse_rates: fields needs rasters of temperature; there are stations, so set lapse_rates: stations"
    if config["lapse_rates"] == "stations" and not config["stations"]:
        yield "lapse_rates: stations needs stations; set it to fields, or to 12 numbers in K/km"


# A file of --configfile stands for itself: Snakemake would fill what it lacks from the example's.
if not workflow.overwrite_configfiles:

    configfile: own_or_default("config/config.yaml")


config.update({key: numbers(value) for key, value in config.items()})
check(config)
