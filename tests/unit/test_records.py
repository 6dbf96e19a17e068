from __future__ import annotations

from pathlib import Path

import pytest
from helpers.jobs import a_job, a_segment

from snakemake_executor_plugin_ckpt.errors import StateError
from snakemake_executor_plugin_ckpt.policy import Policy
from snakemake_executor_plugin_ckpt.state import durable
from snakemake_executor_plugin_ckpt.state.records import SCHEMA, Job, Record, Segment, Submission

RECORDS: list[Record] = [
    a_segment(3, reason="a: 'b' # ü\n", node={"cpu": "x"}, warnings=["w"], frozen=0.25),
    a_job(watched=["/a b"], wildcards="x=1"),
    Submission(1, 2, "name", "local", 5.5, reason="why"),
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_a_record_survives_its_file(record: Record, tmp_path: Path) -> None:
    path = tmp_path / "record.yaml"
    durable.replace(path, durable.to_yaml(record.to_dict()))
    assert type(record).from_dict(durable.read_yaml(path)) == record


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_keys_of_a_newer_version_are_kept(record: Record) -> None:
    data = {**record.to_dict(), "colour": {"of": ["the", "sky"]}}
    assert type(record).from_dict(data).to_dict() == data


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
@pytest.mark.parametrize("schema", [SCHEMA + 1, 999, "2", None, 1.5])
def test_a_newer_or_senseless_schema_is_refused(record: Record, schema: object) -> None:
    with pytest.raises(StateError, match="update the plugin"):
        type(record).from_dict({**record.to_dict(), "schema": schema})


@pytest.mark.parametrize("missing", ["number", "attempt", "host", "started"])
def test_a_record_without_what_must_be_there_is_refused(missing: str) -> None:
    data = a_segment().to_dict()
    del data[missing]
    with pytest.raises(StateError, match=missing):
        Segment.from_dict(data)


def test_what_is_none_takes_no_line() -> None:
    assert None not in a_segment().to_dict().values()


def test_a_policy_survives_a_record_and_ignores_what_is_newer() -> None:
    policy = Policy(walltime=3600.0, extra={"slurm_account": "x"}, engine_options={"tcp": "close"})
    assert Policy.from_dict({**policy.to_dict(), "colour": "blue"}) == policy


def test_every_record_has_its_own_lists() -> None:
    first = Job.from_dict(a_job().to_dict())
    first.watched.append("x")
    assert a_job().watched == []
