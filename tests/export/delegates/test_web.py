"""The delegate `web`: LiteRT.js in a headless Chromium."""

from __future__ import annotations

import pytest
from support.small_tflite import small_tflite
from support.web_page import fake_runtime

from effkeras.litert.latency import Plan
from effkeras.support import results
from effkeras.support.errors import EffkerasError
from export.bench import BenchOptions, bench
from export.delegates.delegate import Absent, BenchmarkCase, host_delegates
from export.delegates.timing import Selection, time_here
from export.web import browser, runtime
from export.web.browser import find_browser
from export.web.runtime import find_runtime

PLAN = Plan(runs=4, warmup=1)


def test_without_a_browser_it_is_absent(monkeypatch):
    monkeypatch.setattr(browser, "find_browser", lambda: None)
    (found,) = time_here([BenchmarkCase(small_tflite("float32"), "web", probed=False)], PLAN)
    assert isinstance(found, Absent)
    assert "Chromium" in found.reason


def test_it_needs_no_probe():
    """The browser is a process of its own already."""
    (case,) = Selection(("web",), (1,)).cases_here(small_tflite("float32"))
    assert not case.probed


@pytest.fixture(scope="module")
def real():
    if find_browser() is None:
        pytest.skip("needs Chromium")
    try:
        return find_runtime()
    except EffkerasError as error:
        pytest.skip(f"no LiteRT.js: {error}")


@pytest.mark.slow
def test_it_measures_in_the_page_with_versions(real, tmp_path):
    file, out = tmp_path / "small.tflite", tmp_path / "rows.jsonl"
    file.write_bytes(small_tflite("float32"))
    bench([file], BenchOptions((1, 2), runs=3, warmup=1, out=out, delegates=("web",)))
    rows = results.read(out)
    assert [(row["delegate"], row["threads"]) for row in rows] == [("web", 1), ("web", 2)]
    for row in rows:
        assert 0 < row["min_ms"] <= row["median_ms"]
        assert (row["litert_js"], row["peak_bytes"]) == (real.version, None)
        assert row["browser"].startswith("Chrom")
        assert row["wholly_delegated"]


@pytest.mark.slow
def test_an_int8_input_is_refused_with_the_reason(real):
    (found,) = time_here([BenchmarkCase(small_tflite(), "web", probed=False)], PLAN)
    assert isinstance(found, Absent)
    assert "int8" in found.reason


def test_a_broken_runtime_makes_it_absent(tmp_path, monkeypatch):
    """The command goes on with the other delegates."""
    if find_browser() is None:
        pytest.skip("needs Chromium")
    folder = fake_runtime(tmp_path / "litert.js" / runtime.pinned().version)
    (folder / runtime.pinned().module).write_text("throw new Error('broken')")
    monkeypatch.setenv("EFFKERAS_CACHE", str(tmp_path))
    (found,) = time_here([BenchmarkCase(small_tflite("float32"), "web", probed=False)], PLAN)
    assert isinstance(found, Absent)
    assert "broken" in found.reason
    assert host_delegates()["web"].missing() is None
