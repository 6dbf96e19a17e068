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


configfile: own_or_default("config/config.yaml")


config.update({key: numbers(value) for key, value in config.items()})
check(config)
