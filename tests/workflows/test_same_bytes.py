"""The flagship workflow, each of its long jobs cut into segments, gives the bytes of an uninterrupted run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .downscaling import NEEDS_SAGA, QUICK
from .runs import Done, Flow

pytestmark = [pytest.mark.criu, *NEEDS_SAGA]

#: The quick configuration, but with enough work for each tile to need three segments on a fast machine.
ARGUMENTS = (
    *QUICK,
    "cell=80",
    "hour_step=0.5",
    "months=[1]",
)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Flow, Done, Flow]]:
    """The workflow under ckpt, how it ended, and the same without interruption."""
    folder = tmp_path_factory.mktemp("same-bytes")
    cut, whole = Flow(folder / "ckpt"), Flow(folder / "local")
    same = whole.run("--executor", "local", "--cores", "2", *ARGUMENTS)
    assert same.status == 0, same.said
    done = cut.ckpt("--jobs", "2", "--ckpt-walltime", "7s", *ARGUMENTS)
    yield cut, done, whole
    cut.close()


def files(flow: Flow, *endings: str) -> dict[str, bytes]:
    """The content of all results with these endings, by their relative paths."""
    results = flow.path / "results"
    return {str(path.relative_to(results)): path.read_bytes() for path in results.rglob("*") if path.suffix in endings}


def test_every_radiation_tile_was_saved_and_restored_at_least_twice(ran: tuple[Flow, Done, Flow]) -> None:
    cut, done, _ = ran
    assert done.status == 0, done.said
    histories = {
        job.key: folder.segments() for folder in cut.jobs() if (job := folder.job()) and job.rule == "radiation"
    }
    assert len(histories) == 4
    for key, segments in histories.items():
        assert len(segments) >= 3, key
        assert [segment.outcome for segment in segments] == ["saved"] * (len(segments) - 1) + ["finished"], key
        assert [segment.restored_from for segment in segments[1:]] == [one.generation for one in segments[:-1]], key


@pytest.mark.parametrize(("ending", "least"), [(".sdat", 20), (".png", 5), (".tsv", 2)])
def test_all_results_are_the_same_byte_for_byte(ending: str, least: int, ran: tuple[Flow, Done, Flow]) -> None:
    cut, _, whole = ran
    ours, theirs = files(cut, ending), files(whole, ending)
    assert len(theirs) >= least
    assert ours.keys() == theirs.keys()
    assert [name for name in theirs if ours[name] != theirs[name]] == []


def test_nothing_was_started_again_and_no_save_failed_for_good(ran: tuple[Flow, Done, Flow]) -> None:
    cut, done, _ = ran
    warnings = [text for folder in cut.jobs() for segment in folder.segments() for text in segment.warnings]
    # A process that ends in the very moment of a dump makes criu give up; the job goes on, and the save is repeated.
    assert [text for text in warnings if not text.endswith("No such process")] == []
    assert "Traceback" not in done.said
    assert cut.processes() == []
