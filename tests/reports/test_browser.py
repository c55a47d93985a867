"""The pages in a real Chromium: quiet, loading nothing, no wider than a phone, and free of what axe calls serious.

Needs Debian's chromium and chromium-driver. axe is asked where CATLIP_BENCH_AXE names what `npm pack axe-core` left.
"""

import json
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from bench.__main__ import main
from bench.interfaces.sections import IncomparableResults
from bench.interfaces.verb import REPORT_VERBS, VERBS
from bench.records.record import Record, TransferScores, read_records
from reports.page import render_comparison_page
from tests.data.shards import write_shards
from tests.documents import commits, written
from tests.reports.test_hostile import few_labels, hostile_page

webdriver = pytest.importorskip(
    "selenium.webdriver", reason="selenium is not installed: pip install -e .[tests]"
)

from selenium.webdriver.chrome.options import Options  # noqa: E402
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402

OF_FEATURES = [name for name in ("history", "data") if name in REPORT_VERBS or name in VERBS]
PAGES = ("page", "explanation", *OF_FEATURES, "hostile")
AXE = "CATLIP_BENCH_AXE"
OPEN_ALL = "for (const one of document.querySelectorAll('details')) one.open = true"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip(
            "needs chromium and chromedriver (Debian: apt-get install chromium chromium-driver)"
        )
    options = Options()
    options.binary_location = binary
    for option in (
        "headless=new",
        "disable-gpu",
        "no-sandbox",
        "disable-dev-shm-usage",
        "window-size=1400,1000",
    ):
        options.add_argument(f"--{option}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with webdriver.Chrome(options, Service(driver)) as opened:
        yield opened


def of_two_tasks(record: Record) -> Record:
    """A record whose scores are on two tasks alone, for the other tasks' charts are of the same kind."""
    if not isinstance(record.measured, TransferScores):
        return record
    some = tuple(one for one in record.measured.scores if one.task in ("unseen subgroup", "rooms"))
    return replace(record, measured=replace(record.measured, scores=some))


@pytest.fixture(scope="module")
def pages(whole: list[Record], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The address of each kind of page, built once."""
    folder = tmp_path_factory.mktemp("pages")
    records = [*map(of_two_tasks, whole), *few_labels()]
    texts = {
        "page": render_comparison_page(
            "one",
            records,
            incomparable_results=[IncomparableResults(["another"], records, "Not joined.")],
        ),
        "explanation": render_comparison_page(
            "x", read_records(Path(__file__).parents[1] / "records" / "explain-tiny")
        ),
        "hostile": hostile_page(whole),
    }
    for name, text in texts.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    if "history" in PAGES:
        slow = written(folder / "history", *commits(1, 1, 1, 1, 1.2, 1.2, 1.2, 1.2, processes=3))
        assert main(["report", "history", str(slow), "--out", str(folder / "history.html")]) == 0
    if "data" in PAGES:
        shards = write_shards(folder / "shards")
        options = ["--index-folder", str(folder), "--out", str(folder / "data.html")]
        assert main(["data", str(shards), *options]) == 0
    return {name: (folder / f"{name}.html").as_uri() for name in PAGES}


def show(browser: Any, width: int, *, dark: bool = False) -> None:
    """Make the window this wide, light or dark."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    still = {"name": "prefers-reduced-motion", "value": "reduce"}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme, still]})


@pytest.fixture
def at(browser: Any, pages: dict[str, str]) -> Iterator[Callable[..., Any]]:
    """Open a page in a window of this width."""

    def opened(name: str, width: int = 1400) -> Any:
        show(browser, width)
        browser.get_log("browser"), browser.get_log("performance")  # what went before
        browser.get(pages[name])
        return browser

    yield opened
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.parametrize("name", PAGES)
def test_page_logs_nothing_makes_no_request_and_is_no_wider_than_a_phone(
    at: Callable[..., Any], pages: dict[str, str], name: str
) -> None:
    browser = at(name, 400)
    browser.execute_script(OPEN_ALL)
    assert browser.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [
        one["params"]["request"]["url"]
        for one in events
        if one["method"] == "Network.requestWillBeSent"
    ]
    assert {url for url in asked if not url.startswith("data:")} == {pages[name]}
    widths = "return [document.documentElement.scrollWidth, document.body.scrollWidth]"
    assert max(browser.execute_script(widths)) <= 400


def table(browser: Any, name: str) -> Any:
    return browser.find_element(By.CSS_SELECTOR, f'[aria-label="{name}"] table')


def column(found: Any, number: int) -> list[str]:
    return [
        row.find_elements(By.CSS_SELECTOR, "th, td")[number].text
        for row in found.find_elements(*ROWS)
    ]


ROWS = (By.CSS_SELECTOR, "tbody tr:not([hidden])")


def test_columns_sort_both_ways_by_value(at: Callable[..., Any]) -> None:
    found = table(at("page"), "Throughput of each experiment")
    button = found.find_elements(By.CSS_SELECTOR, "thead button")[1]

    def speeds() -> list[float]:
        return [float(cell.split("\n")[0].replace(",", "")) for cell in column(found, 1)]

    before = speeds()
    assert before != sorted(before)
    button.click()
    assert speeds() == sorted(before)
    assert found.find_elements(By.TAG_NAME, "th")[1].get_attribute("aria-sort") == "ascending"
    button.click()
    assert speeds() == sorted(before)[::-1]
    assert sorted(column(found, 0)) == sorted(
        [
            "CLIP\nclip-tiny",
            "SigLIP\nsiglip-tiny",
            "CatLIP\ncatlip-tiny",
            "SuperClass\nsuperclass-tiny",
        ]
    )


def test_filtered_rows_are_the_copied_rows(at: Callable[..., Any]) -> None:
    browser = at("page")
    found = table(browser, "Accuracy on unseen subgroup")
    tools = found.find_element(By.XPATH, "../preceding-sibling::div[@class='tools']")
    rows = len(found.find_elements(*ROWS))
    tools.find_element(By.TAG_NAME, "input").send_keys("catlip-tiny")
    shown = [row for row in found.find_elements(*ROWS) if row.get_attribute("class") != "group"]
    assert 0 < len(shown) < rows
    assert all("CatLIP" in row.text for row in shown)
    assert tools.find_element(By.TAG_NAME, "output").text.startswith(f"{len(shown)} of ")
    allowed = {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    browser.execute_cdp_cmd("Browser.grantPermissions", allowed)
    tools.find_element(By.TAG_NAME, "button").click()
    copied = browser.execute_async_script(
        "navigator.clipboard.readText().then(arguments[0], arguments[0])"
    )
    lines = [line.split("\t") for line in copied.split("\n")]
    assert len(lines) == 1 + len(shown)
    assert {line[0] for line in lines[1:]} == {"CatLIP (catlip-tiny)"}
    assert len({len(line) for line in lines}) == 1


def test_hostile_payloads_do_nothing_when_clicked(at: Callable[..., Any]) -> None:
    browser = at("hostile")
    browser.execute_script(
        OPEN_ALL
        + """
        for (const one of document.querySelectorAll("button, summary")) one.click();
        for (const one of document.querySelectorAll("[data-tip], svg, a"))
          for (const kind of ["pointerover", "mouseover", "focus"]) one.dispatchEvent(new Event(kind, {bubbles: true}));
        for (const one of document.querySelectorAll("input")) {
          one.value = "<img src=x onerror=window.hit=1>";
          one.dispatchEvent(new Event("input"));
        }
        """
    )
    assert browser.execute_script("return window.hit") is None
    assert (
        browser.execute_script("return document.querySelectorAll('img, textarea, script').length")
        == 1
    )
    assert browser.get_log("browser") == []


@pytest.fixture(scope="module")
def axe() -> str:
    place = os.environ.get(AXE)
    if not place:
        pytest.skip(f"{AXE} is not set to the file that `npm pack axe-core` leaves")
    if not place.endswith(".tgz"):
        return Path(place).read_text(encoding="utf-8")
    with tarfile.open(place) as packed:
        script = packed.extractfile("package/axe.min.js")
        assert script is not None
        return script.read().decode()


@pytest.mark.parametrize("name", PAGES[:-1])
def test_axe_finds_nothing_serious_in_light_and_dark(
    at: Callable[..., Any], axe: str, name: str
) -> None:
    """The theme changes nothing but contrast."""
    browser = at(name)
    browser.execute_script(OPEN_ALL)
    browser.execute_script(axe)
    for dark, rules in ((False, {}), (True, {"runOnly": ["color-contrast"]})):
        show(browser, 1400, dark=dark)
        found = browser.execute_async_script(
            "axe.run({resultTypes: ['violations'], ...arguments[0]}).then((all) => arguments[1](all.violations))",
            rules,
        )
        serious = [
            (one["id"], [node["html"][:200] for node in one["nodes"][:3]])
            for one in found
            if one["impact"] in {"serious", "critical"}
        ]
        assert serious == []
