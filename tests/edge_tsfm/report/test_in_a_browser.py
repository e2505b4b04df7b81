"""Every page in Chromium on a desk and on a phone, by day and by night: nothing cut, everything readable."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edge_tsfm.evaluation import evaluate_forecasts
from edge_tsfm.progress import Work
from edge_tsfm.report import adapt
from edge_tsfm.report.evaluation import report_page
from edge_tsfm.report.pictures import Shown
from edge_tsfm.report.scale import Scale
from edge_tsfm.report.verdict import RunVerdict, Seen
from edge_tsfm.research.study import render
from edge_tsfm.research.study.pareto import pareto_plot
from edge_tsfm.research.study.table import tabulate
from edge_tsfm.runs.adapt_eval import adapt_eval
from tests.edge_tsfm.research.study.test_table import cell, write
from tests.edge_tsfm.runs.test_adapt_eval import options, stays
from tests.simulators.publisher import approve_version
from tests.simulators.server import Bed
from tests.support.forecasts import LEVELS, mean_forecast, ward
from tests.support.linear import Linear

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")

HEIGHT = 900
WIDTHS = {"desk": 1280, "phone": 400}
GATE = {"accepted": False, "forced": False, "reason": "WQL 0.2 % lower, and the interval does not exclude zero"}


def evaluation(_: Path) -> str:
    windows = ward()
    forecasts = {"adapter": mean_forecast(windows), "base": mean_forecast(windows, off=4)}
    sex = np.where(np.arange(len(windows)) % 2, "f", "m")
    report = evaluate_forecasts(forecasts, windows, LEVELS, resamples=100, subgroups={"sex": sex})
    seen = Seen(who="40 test patients", wql=report.overall.adapter_minus["base"]["wql"])
    scale = Scale(signal="MAP", unit="mmHg", interval_us=3_600_000_000)
    shown = Shown(scale=scale, windows=windows, forecasts=forecasts, quantile_levels=LEVELS)
    return report_page(
        report,
        title="MAP: fourierft on edge-bolt-micro, test patients of physionet2019_hospital_a.parquet",
        scale=scale,
        verdict=RunVerdict(gate=GATE, seen=seen),
        notes=["the run was trained for another interval; accepted by hand"],
        shown=shown,
    )


def study(folder: Path) -> str:
    cells = [write(folder, cell("base", kind="base"), 10.0)]
    cells += [write(folder, cell(name), mse) for name, mse in (("full", 8.0), ("fourierft-2400", 8.1), ("norms", 9.0))]
    groups = tabulate(cells, folder, blobs={"norms-0": 512})
    return render.page(groups, ["1 cell is not finished"], title="Study: MAP", picture=pareto_plot(groups))


def adaptation(_: Path) -> str:
    found = adapt_eval(stays(30), Linear(), options(ward=15), work=Work())
    return adapt.page(found, "Adaptation of HR on the device")


def record(folder: Path) -> str:
    return Path(approve_version(Bed(folder).publisher, 1).record).with_suffix(".html").read_text()


def act(folder: Path) -> str:
    bed = Bed(folder)
    bed.offer(1)
    return next((folder / "repository" / "records").glob("*-start*.html")).read_text()


PAGES: dict[str, Callable[[Path], str]] = {
    "evaluation": evaluation,
    "study": study,
    "adaptation": adaptation,
    "record": record,
    "act": act,
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_reads_well_at_any_width_by_day_and_by_night(name: str, browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    file = tmp_path / f"{name}.html"
    file.write_text(PAGES[name](tmp_path / "made"), encoding="utf-8")
    for where, width in WIDTHS.items():
        for scheme in ("light", "dark"):
            found = look(browser, file, width, scheme, tmp_path / f"{name}-{where}-{scheme}.png")
            assert found["overflow"] == [], f"{where}, {scheme}"
            assert found["violations"] == [], f"{where}, {scheme}"
            assert found["asked"] == [], "a page needs nothing else"
            assert found["pictures"] == found["shown"], "every picture is drawn"


def look(browser: Browser, file: Path, width: int, scheme: str, shot: Path) -> dict[str, Any]:
    """Open a page, and say what juts out of it, what axe-core objects to, and what it asked the network for."""
    from axe_playwright_python.sync_playwright import Axe

    context = browser.new_context(viewport={"width": width, "height": HEIGHT}, color_scheme=scheme)  # type: ignore[arg-type]
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(file.as_uri())
    page.screenshot(path=str(shot), full_page=True)
    found = {
        "overflow": page.evaluate(
            """() => document.documentElement.scrollWidth <= innerWidth ? [] :
              [...document.querySelectorAll('main *')].filter(one => !one.closest('.scroll') &&
                one.getBoundingClientRect().right > innerWidth).map(one => one.outerHTML.slice(0, 80))
                .concat(['page: ' + document.documentElement.scrollWidth])"""
        ),
        "pictures": page.evaluate("document.images.length"),
        "shown": page.evaluate(
            "[...document.images].filter(one => one.naturalWidth && (one.alt || one.matches('.layer'))).length"
        ),
        "asked": [url for url in asked if not url.startswith(("file:", "data:"))],
    }
    axe = Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]})
    found["violations"] = [
        (one["id"], node["html"][:120]) for one in axe.response["violations"] for node in one["nodes"]
    ]
    context.close()
    return found


def test_the_deciding_figure_is_in_sight_on_a_phone(browser: Browser, tmp_path: Path) -> None:
    file = tmp_path / "a.html"
    file.write_text(evaluation(tmp_path), encoding="utf-8")
    page = browser.new_page(viewport={"width": 400, "height": HEIGHT})
    page.goto(file.as_uri())
    box = page.locator("table").first.locator("tbody tr").first.locator("td").first.bounding_box()
    assert box is not None
    assert box["x"] + box["width"] <= 400
    assert page.locator("table").first.locator("thead th").first.inner_text() == "WQL"
    page.close()


@pytest.fixture
def charts(browser: Browser, tmp_path: Path) -> Iterator[Page]:
    """The page of an evaluation, without scripts."""
    file = tmp_path / "a.html"
    file.write_text(evaluation(tmp_path), encoding="utf-8")
    context = browser.new_context(viewport={"width": 1280, "height": HEIGHT}, java_script_enabled=False)
    page = context.new_page()
    page.goto(file.as_uri())
    yield page
    context.close()


def test_a_series_is_hidden_by_its_box_and_brought_out_by_its_name(charts: Page) -> None:
    figure = charts.locator("figure", has_text="WQL by hours ahead").first
    layers = figure.locator(".layer")
    assert figure.locator(".keys label").all_inner_texts() == ["adapter", "frozen base", "persistence"]
    assert [layers.nth(k).is_visible() for k in range(3)] == [True] * 3
    figure.get_by_role("checkbox", name="frozen base").focus()
    charts.keyboard.press("Space")
    assert [layers.nth(k).is_visible() for k in range(3)] == [True, False, True]
    charts.emulate_media(media="print")  # a printed page is whole
    assert [layers.nth(k).is_visible() for k in range(3)] == [True] * 3
    assert not figure.locator(".keys").is_visible()
    charts.emulate_media(media="screen")
    figure.locator(".keys label", has_text="persistence").hover()
    faded = [float(str(layers.nth(k).evaluate("one => getComputedStyle(one).opacity"))) for k in range(3)]
    assert faded[2] == 1
    assert max(faded[:2]) < 0.5


def test_values_are_read_by_pointer_and_by_key_where_the_curve_is(charts: Page) -> None:
    figure = charts.locator("figure", has_text="WQL by hours ahead").first
    spans, table = figure.locator(".readings span"), figure.locator("details")
    rows = {row.locator("th").inner_text(): row.locator("td").first for row in _opened(table)}
    assert list(rows) == ["1 hour", "2 hours", "3 hours", "4 hours", "5 hours", "6 hours"]
    for k, name in enumerate(rows):
        spans.nth(k).hover()
        (said,) = (one for one in spans.locator("b").all() if one.is_visible())
        value = rows[name].inner_text().split()[0]
        assert said.inner_text().startswith(f"{name}: adapter {value} (")
        assert spans.nth(k).get_attribute("aria-label") == said.inner_text()
    charts.mouse.move(0, 0)
    figure.get_by_role("checkbox", name="persistence").focus()
    charts.keyboard.press("Tab")
    assert spans.nth(0).locator("b").is_visible()
    charts.keyboard.press("Tab")
    assert spans.nth(1).locator("b").is_visible()
    # Each place lies where its value is drawn: equal steps are equally wide, but for the margins of the axes.
    boxes = [span.bounding_box() for span in spans.all()]
    widths = [box["width"] for box in boxes if box is not None]
    assert max(widths[1:-1]) - min(widths[1:-1]) < 2
    picture = figure.locator("img").first.bounding_box()
    assert picture is not None
    assert boxes[0] is not None
    assert 0.05 < (boxes[0]["x"] - picture["x"]) / picture["width"] < 0.2


def _opened(table: Locator) -> list[Locator]:
    table.locator("summary").click()
    return table.locator("tbody tr").all()
