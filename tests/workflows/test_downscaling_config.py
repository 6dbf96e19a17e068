"""The downscaling workflow's configuration: what is refused, what is described, and its form."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

WORKFLOW = Path(__file__).resolve().parents[2] / "workflows" / "downscaling"
SNAKEFILE = WORKFLOW / "workflow" / "Snakefile"
CONFIGURATIONS = ["config/config.yaml", "config/valley.yaml", "config/alps.yaml", ".test/config/config.yaml"]
UTM = "+proj=utm +zone=13 +datum=WGS84 +units=m +no_defs"


def snakemake(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the workflow's Snakefile in a folder."""
    command = [sys.executable, "-m", "snakemake", "-s", str(SNAKEFILE), "--directory", str(folder), *arguments]
    environment = {**os.environ, "SNAKEMAKE_PROFILE": "none"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def load(name: str) -> dict[str, Any]:
    """A configuration that comes with the workflow."""
    found: dict[str, Any] = yaml.safe_load((WORKFLOW / name).read_text())
    return found


def schema() -> dict[str, Any]:
    """The keys and what they may be."""
    found: dict[str, Any] = yaml.safe_load((WORKFLOW / "workflow/schemas/config.schema.yaml").read_text())
    return found


# What is refused

FILES = {"temperature": "tas_{month}.tif", "temperature_elevation": "z.tif", "stations": None}
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"crs": "+proj=longlat +datum=WGS84"}, "config: crs: +proj=longlat +datum=WGS84 is in degrees"),
    ({"crs": UTM.replace("units=m", "units=us-ft")}, "is not in metres"),
    ({"crs": "EPSG:32613"}, "config: crs: 'EPSG:32613' does not match '\\\\+proj='"),
    ({"extent": [446000, 434000, 4460000, 4472000]}, "config: extent: [446000, 434000, 4460000, 4472000] must be xmin"),
    (
        {"extent": [434000, 446100, 4460000, 4472000]},
        "config: extent: xmax - xmin is 12100 m, which is no whole number",
    ),
    ({"extent": [434000, 446000]}, "config: extent: [434000, 446000] is too short"),
    ({"tiles": [2, 2, 2]}, "config: tiles: [2, 2, 2] is too long"),
    ({"tiles": [2, 0]}, "config: tiles[1]: 0 is less than the minimum of 1"),
    ({"latitude": "here"}, "config: latitude: 'here' is not valid under any of the given schemas"),
    ({"cloud_cover": [0.5] * 11}, "config: cloud_cover:"),
    ({"cloud_cover": "clouds.tif"}, "config: cloud_cover: clouds.tif has no {month}"),
    ({"lapse_rates": [6.5] * 11}, "config: lapse_rates:"),
    ({"lapse_rates": "fields"}, "config: lapse_rates: fields needs rasters of temperature"),
    ({"stations": None}, "config: stations, temperature: give one of them"),
    (FILES, "config: lapse_rates: stations needs stations"),
    (
        FILES | {"stations": "resources/stations.tsv", "lapse_rates": "fields"},
        "config: stations, temperature: give one",
    ),
    (FILES | {"lapse_rates": "fields", "temperature_elevation": None}, "config: temperature_elevation: missing"),
    (FILES | {"lapse_rates": "fields", "temperature": ["a.tif"] * 11}, "config: temperature:"),
    (FILES | {"lapse_rates": "fields", "temperature_elevation": "resources/rmnp-dem.tif"}, "no file tas_01.tif"),
    ({"temperature_unit": "F"}, "config: temperature_unit: 'F' is not one of ['C', 'K', '0.1K']"),
    ({"halo": None}, "config: halo: None is not of type 'number'"),
    ({"hour_step": 12}, "config: hour_step: 12 is greater than the maximum of 4"),
]


@pytest.mark.parametrize(("changes", "message"), WRONG)
def test_a_wrong_value_gives_one_error_that_names_its_key(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text(json.dumps(load(".test/config/config.yaml") | changes))
    done = snakemake(tmp_path, "-n", "--configfile", str(mine))
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert message in said
    assert said.count("Error") == 1
    assert "Traceback" not in said


def test_a_configuration_of_ones_own_is_not_filled_from_the_examples(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text(json.dumps({key: value for key, value in load(CONFIGURATIONS[0]).items() if key != "halo"}))
    done = snakemake(tmp_path, "-n", "--configfile", str(mine))
    assert done.returncode != 0
    assert "config: 'halo' is a required property" in done.stdout + done.stderr


@pytest.mark.parametrize("rates", [[6.5] * 12, "stations"])
def test_lapse_rates_may_be_given_or_from_the_stations(rates: object, tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text(json.dumps(load(".test/config/config.yaml") | {"lapse_rates": rates}))
    done = snakemake(tmp_path, "-n", "--quiet", "--configfile", str(mine))
    assert done.returncode == 0, done.stdout + done.stderr


# What is described


def test_every_key_is_described_with_its_unit_default_and_range() -> None:
    lines = (WORKFLOW / "config" / "README.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| `")]
    described = {row[0].strip("`"): row for row in rows}
    assert described.keys() == schema()["properties"].keys()
    for key, row in described.items():
        assert len(row) == 5, key
        assert all(row), key


def test_defaults_in_the_description_are_those_of_the_schema() -> None:
    text = (WORKFLOW / "config" / "README.md").read_text()
    for key, rules in schema()["properties"].items():
        row = next(line for line in text.splitlines() if line.startswith(f"| `{key}` |"))
        default = row.split("|")[3].strip()
        if "default" in rules:
            value = rules["default"]
            assert default == ("none" if value is None else f"`{yaml.safe_dump(value).split()[0]}`"), key
        else:
            assert default == "required", key


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_every_key_of_the_configurations_is_explained_in_its_line(name: str) -> None:
    lines = [line for line in (WORKFLOW / name).read_text().splitlines() if line[:1].isalpha()]
    assert {line.split(":")[0] for line in lines} <= schema()["properties"].keys()
    if name == CONFIGURATIONS[0]:
        assert [line for line in lines if "#" not in line] == []


def test_the_catalog_of_workflows_finds_what_it_looks_for() -> None:
    catalog = yaml.safe_load((WORKFLOW / ".snakemake-workflow-catalog.yml").read_text())
    assert catalog["usage"]["software-stack-deployment"].keys() >= {"apptainer"}
    for name in (
        "README.md",
        "config/README.md",
        "config/config.yaml",
        "workflow/Snakefile",
        ".test/config/config.yaml",
    ):
        assert (WORKFLOW / name).is_file(), name


# Its form


@pytest.mark.parametrize("name", ["config/config.yaml", "config/valley.yaml", ".test/config/config.yaml"])
def test_snakemake_lint_has_nothing_to_say(name: str, tmp_path: Path) -> None:
    done = snakemake(tmp_path, "--lint", "--configfile", str(WORKFLOW / name))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Congratulations" in done.stdout + done.stderr


def test_all_rules_are_formatted_by_snakefmt() -> None:
    files = [SNAKEFILE, *sorted((WORKFLOW / "workflow" / "rules").glob("*.smk"))]
    assert len(files) >= 6
    command = [sys.executable, "-m", "snakefmt", "--check", *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
