"""What the documentation says of the tests is so."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TESTS = {
    name
    for path in (ROOT / "tests").rglob("test_*.py")
    for name in re.findall(r"^def (test_\w+)", path.read_text(), re.M)
}


def test_every_guarantee_names_tests_that_exist() -> None:
    page = (ROOT / "docs" / "guarantees.md").read_text()
    named = set(re.findall(r"`(test_\w+)`", page))
    assert len(named) > 50
    assert sorted(named - TESTS) == []


def test_every_sentence_of_the_guarantees_names_a_test() -> None:
    page = (ROOT / "docs" / "guarantees.md").read_text().partition("## Limits")[0]
    sentences = re.findall(r"^\* .*?(?=^\* |^$|^#)", page, re.M | re.S)
    rows = [line for line in page.splitlines() if line.startswith("| ") and not line.startswith("| what happens")]
    assert len(sentences) > 20 and len(rows) > 10
    assert [text for text in [*sentences, *rows] if "`test_" not in text] == []


def test_links_between_pages_lead_somewhere() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), ROOT / "benchmarks" / "README.md"]
    links = [(page, link) for page in pages for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())]
    assert len(links) > 5
    assert [(page.name, link) for page, link in links if not (page.parent / link).exists()] == []
