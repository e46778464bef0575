"""A report in a real browser: from disk, on a phone, by keyboard, and for axe-core."""

from __future__ import annotations

import json

import pytest
from PIL import Image
from support.axe import axe_core, violations
from support.report_runs import export_row, full_rows, write_run

from export.report import ReportOptions, write_report
from export.web.browser import HOW_TO_GET, find_browser, open_browser

TAB = 9
CONTROLS = "a[href], button, input, summary, [tabindex='0']"


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The page of two runs, with charts, tables that fold, a sheet and an image."""
    folder = tmp_path_factory.mktemp("page")
    run = write_run(folder / "digits", full_rows())
    for name in ("samples/one.png", "evaluation/worst.png"):
        (run / name).parent.mkdir()
        Image.new("RGB", (64, 48), "teal").save(run / name)
    other = write_run(folder / "other", [export_row("int8", 600_000, 0.86)])
    return write_report([run, other], folder / "out").file


@pytest.fixture(scope="module")
def compared(report):
    """The page of a run against another one."""
    runs = report.parents[1]
    return write_report([runs / "digits"], runs / "moved", ReportOptions(against=runs / "other")).file


@pytest.fixture(scope="module")
def page(report, tmp_path_factory):
    if find_browser() is None:
        pytest.skip(HOW_TO_GET)
    with open_browser() as browser:
        opened = browser.new_page()
        opened.show_as(360, 740, phone=True)
        opened.go(report.as_uri())
        yield opened


def visible(page, selector):
    """How many elements a reader can reach."""
    return page.evaluate(
        f"[...document.querySelectorAll({json.dumps(selector)})].filter(one => one.checkVisibility()).length"
    )


def column(page, table, place):
    rows = f"[...document.querySelectorAll('table')[{table}].tBodies[0].rows]"
    return page.evaluate(f"{rows}.filter(one => !one.hidden).map(one => one.cells[{place}].textContent)")


def test_the_page_is_as_wide_as_the_phone(page):
    assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_tab_reaches_every_control(page):
    reached = page.evaluate("window.reached = new Set(); document.activeElement.blur(); 0")
    for _ in range(visible(page, CONTROLS)):
        page.press("Tab", TAB)
        reached = page.evaluate(
            "(() => { const one = document.activeElement; const box = one.getBoundingClientRect();"
            f" if (one.matches({json.dumps(CONTROLS)}) && box.width) reached.add(one);"
            " return reached.size; })()"
        )
    assert reached == visible(page, CONTROLS)


def test_columns_sort_by_their_figures(page):
    names = column(page, 0, 0)
    sizes = column(page, 0, 3)
    button = "document.querySelectorAll('table')[0].tHead.rows[0].cells[3].firstChild"
    page.evaluate(f"{button}.click()")
    assert column(page, 0, 3) == sorted(sizes, key=lambda one: float(one.split()[0].replace(",", "")))
    page.evaluate(f"{button}.click()")
    assert column(page, 0, 0)[0] == "Keras float model"
    assert page.evaluate(f"{button}.parentElement.getAttribute('aria-sort')") == "descending"
    assert sorted(column(page, 0, 0)) == sorted(names)


def test_rows_filter_by_words(page):
    def write(text):
        page.evaluate(
            f"(() => {{ const field = document.querySelector('input'); field.value = {json.dumps(text)};"
            " field.dispatchEvent(new Event('input')); })()"
        )

    write("INT8")
    assert column(page, 0, 0) == ["int8"]
    assert " rows" in page.evaluate("document.querySelector('output').textContent")
    write("")
    assert len(column(page, 0, 0)) == 5


def test_the_switch_turns_the_page_and_its_charts(page):
    shown = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(shown) == "rgb(255, 255, 255)"
    charts = visible(page, ".on-light")
    assert (charts > 0, visible(page, ".on-dark")) == (True, 0)
    page.evaluate("document.querySelector('.bar button').click()")
    assert page.evaluate(shown) == "rgb(22, 25, 29)"
    assert (visible(page, ".on-light"), visible(page, ".on-dark")) == (0, charts)
    assert page.evaluate("document.querySelector('.bar button').getAttribute('aria-pressed')") == "true"
    page.evaluate("document.querySelector('.bar button').click()")


def test_nobody_is_shut_out(page, report, compared, tmp_path):
    axe = axe_core(tmp_path)
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    assert violations(page, axe) == []
    page.show_as(1280, 900, dark=True)
    page.go(compared.as_uri())
    assert violations(page, axe) == []


def test_nothing_is_logged_and_nothing_comes_from_elsewhere(page):
    assert page.messages == []
    elsewhere = "performance.getEntriesByType('resource').filter(one => !one.name.startsWith('data:')).length"
    assert page.evaluate(elsewhere) == 0
