"""The report of workflows/downscaling, made and opened without a network: maps and captions in a real browser."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.browser import MISSING as NO_BROWSER
from helpers.browser import Browser

from .downscaling import NEEDS_SAGA, QUICK
from .runs import Flow

pytestmark = [
    *NEEDS_SAGA,
    pytest.mark.skipif(bool(NO_BROWSER), reason=f"not installed: {', '.join(NO_BROWSER)} (apt: chromium-driver)"),
]

#: The quick configuration, in one tile and month.
ARGUMENTS = (
    *QUICK,
    "months=[1]",
    "tiles=1",
)
#: Category, label in it, and words of the caption that only this map's has.
MAPS = {
    "downscaling": ("Temperature", "Before and after downscaling", "before and after downscaling."),
    "temperature": ("Temperature", "Month by month", "all months on one scale"),
    "sun_effect": ("Temperature", "Effect of the sun", "less the part that height explains"),
    "sun": ("Radiation", "Month by month", "Potential Incoming Solar Radiation"),
    "quotient": ("Radiation", "Relative to flat open ground", "Radiation of every cell over that of flat open ground"),
}
UNITS = {"downscaling": "°C", "temperature": "°C", "sun_effect": "(K)", "sun": "kWh/m²", "quotient": "a ratio"}


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flow]:
    """The workflow in small, run to its end, and its report written."""
    made = Flow(tmp_path_factory.mktemp("report") / "run")
    ran = made.run("--cores", "2", *ARGUMENTS)
    assert ran.status == 0, ran.said
    # Whatever would be fetched for the report is asked of a proxy that does not answer.
    made.environment |= dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:9")
    reported = made.run("--report", "report.html", *ARGUMENTS)
    assert reported.status == 0, reported.said
    yield made
    made.close()


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser")) as made:
        yield made


@pytest.fixture
def browser(flow: Flow, started: Browser) -> Browser:
    """The report just opened."""
    started.open((flow.path / "report.html").as_uri())
    started.wait("return document.querySelector('nav li') !== null")
    return started


def click_words(browser: Browser, words: str) -> None:
    """Click on an entry of the report's menu."""
    browser.click(f"//nav//a[normalize-space(.)='{words}']")


def click_icon(browser: Browser, label: str, number: int) -> None:
    """Click on a button in the row of a result: 1 shows it, 2 tells about it."""
    browser.click(f"(//nav//tr[td[normalize-space(.)='{label}']]//td[last()]//a)[{number}]")


def png_size(path: Path) -> list[int]:
    """Width and height."""
    return list(struct.unpack(">2I", path.read_bytes()[16:24]))


def test_the_report_opens_with_its_description_its_rules_and_its_categories(browser: Browser) -> None:
    browser.wait("return document.body.innerText.includes('Temperature (Böhner')")
    text = browser.text()
    assert "downscaled to 400 m" in text
    assert {"Temperature", "Radiation"} <= set(text.split("\n"))
    assert "{{" not in text
    # The graph of rules is drawn by a library that the page brings along.
    browser.wait("return document.querySelector('svg, canvas') !== null")
    assert browser.errors() == []


@pytest.mark.parametrize("name", MAPS)
def test_a_click_shows_the_map_and_another_its_caption(name: str, browser: Browser, flow: Flow) -> None:
    category, label, words = MAPS[name]
    click_words(browser, category)
    click_icon(browser, label, 1)
    drawn = "const i = document.querySelector('#app img:not(nav img)');"
    browser.wait(drawn + "return i !== null && i.complete && i.naturalWidth > 0")
    size = browser.run(drawn + "return [i.naturalWidth, i.naturalHeight]")
    assert size == png_size(flow.path / "results" / "maps" / f"{name}.png")
    click_icon(browser, label, 2)
    browser.wait("return document.body.innerText.toLowerCase().includes('description')")
    text = browser.text()
    assert words in text
    assert UNITS[name] in text
    assert "Source:" in text and "Look at" in text
    picture = browser.screenshot(flow.path.parent / f"{name}.png")
    assert png_size(picture)[0] == 1600
    assert browser.errors() == []


def test_the_page_asks_nobody_for_anything(browser: Browser) -> None:
    asked = browser.run("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert [address for address in asked if not address.startswith(("data:", "blob:", "file:"))] == []


def test_the_browser_tells_of_an_error_where_there_is_one(browser: Browser, tmp_path: Path) -> None:
    page = tmp_path / "wrong.html"
    page.write_text("<script>nothing.like.that()</script>")
    browser.open(page.as_uri())
    browser.wait("return document.readyState === 'complete'")
    assert any("nothing is not defined" in line for line in browser.errors())


def test_the_zip_for_large_results_holds_the_page_and_every_map(flow: Flow) -> None:
    done = flow.run("--report", "report.zip", *ARGUMENTS)
    assert done.status == 0, done.said
    with zipfile.ZipFile(flow.path / "report.zip") as file:
        names = file.namelist()
    assert "report/report.html" in names
    assert {Path(name).stem for name in names if name.endswith(".png")} == set(MAPS)
