"""The report as a reader sees it: in headless Chromium every result of every category opens, nothing is broken, and nothing is fetched."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from html import unescape
from itertools import chain
from pathlib import Path

import pytest
from PIL import Image

from microtome.statistics import MONTE_CARLO
from tests.chromium import Chromium

CATEGORIES = ["1 Results", "2 Methods", "3 Cohort", "4 Data quality", "5 Pretraining", "6 Tiles"]
BROKEN = "[...document.images].filter(image => image.complete && !image.naturalWidth).length"


@pytest.fixture(scope="session")
def chromium() -> None:
    """Chromium is there: from the system's packages, where that is allowed."""
    if not (os.environ.get("CI") == "true" or os.environ.get("MICROTOME_CHROMIUM") == "1"):
        pytest.skip("installs Chromium on this machine: set MICROTOME_CHROMIUM=1 (or CI=true) to run it")
    if shutil.which("chromium"):
        return
    if os.geteuid() != 0:
        pytest.skip("Chromium is installed by root")
    command = "apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium"
    subprocess.run(["bash", "-c", command], check=True, timeout=240, stdout=subprocess.DEVNULL)


@pytest.fixture
def browser(chromium: None, tmp_path: Path) -> Iterator[Chromium]:
    browser = Chromium(tmp_path / "profile")
    yield browser
    browser.close()


def results_of(report: Path) -> dict[str, list[str]]:
    """The paths of the results of each category, as they stand in the report."""
    found = re.search(r"var categories = (\{.*\});", report.read_text())
    assert found
    return {category: list(chain.from_iterable(below.values())) for category, below in json.loads(found.group(1)).items()}


def click(browser: Chromium, element: str) -> None:
    """Click what a JavaScript expression finds, once it is there: in one step, for the page may be drawn again at any time."""
    browser.until(f"(found => found && (found.click(), true))({element})")


def link(text: str) -> str:
    return f"[...document.querySelectorAll('li a')].find(a => a.innerText.trim() === {json.dumps(text)})"


def assert_shown(browser: Chromium, file: Path) -> None:
    """The result stands in the page: the heading of a table's page, a picture by its width."""
    if file.suffix == ".html":
        text = file.read_text()
        heading = re.search("<h1>(.*)</h1>", text)
        assert heading
        browser.until_inside(f"document.querySelector('h1')?.innerText === {json.dumps(unescape(heading.group(1)))}")
        browser.until_inside("document.querySelectorAll('tr').length === " + str(text.count("<tr>")))
    else:
        browser.until(f"document.querySelector('.grow img')?.naturalWidth === {Image.open(file).width}")


def test_categories_are_in_order_and_complete(results: Path) -> None:
    """Snakemake sorts categories by name, so names begin with their place; a reader finds results by one label."""
    report = results / "report.html"
    assert sorted(results_of(report)) == CATEGORIES
    found = re.search(r"var results = (\{.*\});", report.read_text())
    assert found
    assert {tuple(result["labels"]) for result in json.loads(found.group(1)).values()} == {("result",)}
    assert all(result["caption"] for result in json.loads(found.group(1)).values())


def test_captions_of_the_benchmark_say_what_cross_validation_shows() -> None:
    """The same words under each of them, with what they do not show."""
    captions = Path(__file__).parents[1] / "rules" / "captions"
    for name in ("auc", "decisions", "checkpoints", "convergence", "differences", "ranking", "roc", "calibration", "attention"):
        last = (captions / f"{name}.rst").read_text().splitlines()[-1]
        assert last == MONTE_CARLO, name


def test_every_result_is_shown_and_nothing_is_fetched(browser: Chromium, results: Path) -> None:
    report = results / "report.html"
    categories = results_of(report)
    browser.open(report)
    browser.until("document.body.innerText.includes('Monte-Carlo')")
    assert browser.ask("document.querySelector('.prose').getBoundingClientRect().top") >= 0, "the beginning of the text can be read"
    contents = browser.ask("[...document.querySelectorAll('.prose a')].map(a => a.innerText)")
    assert len(contents) == sum(map(len, categories.values()))
    click(browser, link("Checkpoints"))
    assert_shown(browser, results / "figures/checkpoints.png")
    for category, paths in categories.items():
        click(browser, "document.querySelector('ol a')")  # the house: back to the menu
        click(browser, link(category))
        for path in paths:
            label = f"results[{json.dumps(path)}].labels.result"
            row = f"[...document.querySelectorAll('tbody tr')].find(row => row.innerText.trim() === {label})"
            click(browser, f"{row}?.querySelector('a[type=button]')")
            assert_shown(browser, results.parent / path)
            assert browser.ask(BROKEN) == 0, path
    assert browser.errors() == []
    assert [url for url in browser.requests() if not url.startswith(("file:", "data:", "blob:", "about:"))] == []


def test_the_check_finds_what_is_broken(browser: Chromium, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(
        '<img src="gone.png"><script>console.error("first"); throw Error("second")</script><script src="https://a.invalid/b.js"></script>'
    )
    browser.open(page)
    assert browser.ask(BROKEN) == 1
    words = ("first", "second", "ERR_FILE_NOT_FOUND", "ERR_NAME_NOT_RESOLVED")
    browser.wait_for(lambda: browser.ask("true") and all(word in " ".join(browser.errors()) for word in words), " ".join(words))
    assert "https://a.invalid/b.js" in browser.requests()


def test_the_check_waits_where_a_document_made_way_for_another(browser: Chromium, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("<p>there</p>")
    world = browser.call("Page.createIsolatedWorld", frameId=browser.call("Page.getFrameTree")["frameTree"]["frame"]["id"])
    browser.open(tmp_path / "page.html")
    contexts = iter([{"contextId": world["executionContextId"]}, {}])  # that of the document before, and that of this one
    asked = lambda: browser.ask("document.body.innerText", **next(contexts))  # noqa: E731
    assert browser.wait_for(asked, "the page's text") == "there"
    assert next(contexts, None) is None
