"""A model becomes a row, rows become a page, and a second run goes on where the first was stopped."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.tiny import tiny_classifier

from effkeras.definitions import zoo
from effkeras.support import results
from export.benchmarks import zoo as bench
from export.benchmarks.zoo import main, models, row_of
from export.benchmarks.zoo_page import chart, page

ROOT = Path(__file__).parents[3]
SOME = ("efficientdet-lite0", "efficientnet-lite0")


def row(name: str, **others: object) -> results.Row:
    spec = zoo.spec(name)
    file = {
        "bytes": 4_976_000,
        "min_ms": 4.0,
        "median_ms": 4.25,
        "total_ops": 65,
        "delegated_ops": 65,
        "partitions": 1,
    }
    device = {"mac_share": 1.0, "streamed": 0}
    return results.stamped(
        {
            "kind": "zoo",
            "model": name,
            "input_size": list(spec.input.size),
            "macs": 386_000_000,
            "load": 1.5,
            "calibration": "16 images of noise",
            "float32": file,
            "int8": file | {"delegated_ops": 64, "partitions": 2},
            "edgetpu": device | {"streamed": 1_500_000},
            **others,
        }
    )


def test_the_smallest_models_come_first():
    names = models()
    assert sorted(names) == sorted(zoo.list_models())
    assert (
        names.index("efficientnet-lite0") < names.index("efficientnet-b7") < names.index("efficientdet-d7x")
    )


def test_the_page_shows_the_newest_rows_and_says_what_was_published():
    rows = [
        row(SOME[0], macs=1),
        *map(row, SOME),
        row(SOME[0], weights="x", macs=974_000_000),
        {"kind": "other"},
    ]
    text = page(rows)
    assert f"2 of the {len(zoo.list_models())} models" in text
    assert "It was not measured here" in " ".join(text.split())
    lines = [line for line in text.splitlines() if line.startswith("| efficient")]
    rest = "4,976 | 4,976 | 4.0 / 4.2 | 4.0 / 4.2 | 1 / all but 1 in 2 | 100 %, 1.5 MB stream in |"
    assert lines == [
        f"| efficientdet-lite0 | 26.41 | 320x320 | 974 | {rest}",
        f"| efficientnet-lite0 | 75.1 | 224x224 | 386 | {rest}",
    ]
    assert chart(rows).startswith(b"\x89PNG")
    assert "0 of the" in page([])


def test_a_run_goes_on_until_the_time_is_over(tmp_path, monkeypatch, capsys):
    asked = []

    def measured(name, options, seconds):
        asked.append(name)
        if name == SOME[1] and len(asked) < 3:
            raise bench.EffkerasError("it does not convert")
        return {key: value for key, value in row(name).items() if key not in ("time", "environment")}

    monkeypatch.setattr(bench, "_measured", measured)
    words = ["--out", str(tmp_path / "rows.jsonl"), "--page", str(tmp_path / "zoo.md"), "--only", *SOME]
    assert main([*words, "--hours", "0"]) == 0
    assert asked == []
    assert main(words) == 1
    assert f"failed: {SOME[1]}: it does not convert" in capsys.readouterr().out
    assert main(words) == 0
    assert main(words) == 0
    assert asked == [SOME[0], SOME[1], SOME[1]]
    assert (tmp_path / "zoo.md").read_text() == page(results.read(tmp_path / "rows.jsonl"))
    assert (tmp_path / "zoo.png").is_file()


def test_past_the_limits_a_process_is_ended(tmp_path, monkeypatch, capsys):
    words = ["--out", str(tmp_path / "rows.jsonl"), "--page", str(tmp_path / "zoo.md"), "--only", SOME[0]]
    monkeypatch.setattr(bench, "_memory", lambda process: 21e9)
    assert main(words) == 0
    assert f"{SOME[0]} is left out: it takes more than 20 GB" in capsys.readouterr().err
    monkeypatch.setattr(bench, "_memory", lambda process: 0)
    assert main([*words, "--hours", "1e-9"]) == 0
    assert f"goes on with {SOME[0]}" in capsys.readouterr().err
    assert not (tmp_path / "rows.jsonl").exists()


@pytest.mark.slow
def test_a_model_becomes_a_row(tmp_path):
    file = tmp_path / "tiny.toml"
    file.write_text(tiny_classifier().to_toml())
    found = row_of(str(file))
    assert (found["kind"], found["model"], found["weights"]) == ("zoo", "tiny-classifier", "random")
    for recipe in ("float32", "int8"):
        assert found[recipe]["problems"] == []
        assert found[recipe]["median_ms"] > 0
        assert found[recipe]["partitions"] == 1
    assert found["float32"]["error"] < 1e-3
    assert found["int8"]["bytes"] < found["float32"]["bytes"]
    assert 0 <= found["edgetpu"]["mac_share"] <= 1


def test_the_page_is_that_of_the_rows():
    text = page(results.read(ROOT / "models" / "results.jsonl"))
    assert (ROOT / "docs" / "zoo.md").read_text(encoding="utf-8") == text


@pytest.mark.nightly("report-zoo")
def test_the_zoo_is_measured():
    assert (
        main(["--out", str(ROOT / "models" / "results.jsonl"), "--page", str(ROOT / "docs" / "zoo.md")]) == 0
    )
