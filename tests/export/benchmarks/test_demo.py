"""`make demo`'s program: the whole path on a small scale, and at full size with its promises."""

from __future__ import annotations

import json

import pytest
from support.tiny import digits_folder

from export.benchmarks import demo


def rows(run) -> list[dict]:
    return [json.loads(line) for line in (run / "results.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_own_data(tmp_path, capsys, monkeypatch):
    """Someone's own COCO folder; one format is enough for that. Repeated, it does not train again."""
    monkeypatch.setattr(demo, "RECIPES", ("int8",))
    data = digits_folder(tmp_path / "data", train=16, val=8, test=8)
    arguments = ["--data", str(data), "--out", str(tmp_path / "run"), "--epochs", "1"]
    assert demo.main(arguments) == 0
    step = demo.step

    def only_training(*words):
        if words[0] != "train":
            raise demo.StepError(3)
        step(*words)

    monkeypatch.setattr(demo, "step", only_training)
    assert demo.main(arguments) == 3
    assert "already trained" in capsys.readouterr().err
    page = (tmp_path / "run" / "report" / "report.html").read_text()
    assert "int8" in page
    assert len(list((tmp_path / "run" / "samples").glob("*.png"))) == demo.SAMPLES


@pytest.mark.nightly("demo")
def test_demo_keeps_its_promises(tmp_path, capsys):
    """As `make demo` runs it: int8 loses at most 0.01 AP on 1,000 images."""
    run = tmp_path / "runs" / "demo"
    assert demo.main(["--out", str(run)]) == 0
    out = capsys.readouterr().out
    assert str(run / "report" / "report.html") in out
    exports = {row["recipe"]: row for row in rows(run) if row["kind"] == "export"}
    assert set(exports) == set(demo.RECIPES)
    assert all(row["images"] == 1000 for row in exports.values())
    assert exports["float32"]["float_metrics"]["AP"] >= 0.62
    assert abs(exports["float32"]["drop"]) <= 0.001
    assert exports["int8"]["drop"] <= 0.01
    assert exports["int8"]["bytes"] < 0.5 * exports["float32"]["bytes"]
    assert {row["artifact"] for row in rows(run) if row["kind"] == "latency"} == {
        f"{recipe}.tflite" for recipe in demo.RECIPES
    }


def test_a_failing_step_ends_the_demo(tmp_path, capsys):
    assert demo.main(["--data", str(tmp_path / "gone"), "--out", str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err.count("error: ") == 1


def test_one_refused_format_does_not_keep_the_others_from_being_made(tmp_path, monkeypatch, capsys):
    """The commands are not run: int8 is refused as a ruined file is, and the rest goes on."""
    ran = []

    def command(words):
        ran.append(words)
        return 2 if "int8" in words else 0

    monkeypatch.setattr(demo.cli, "main", command)
    monkeypatch.setattr(demo, "_draw_samples", lambda *_: None)
    monkeypatch.setattr(demo, "read_run", lambda *_, **__: None)
    monkeypatch.setattr(demo, "print_table", lambda _: None)
    arguments = ["--data", str(tmp_path), "--out", str(tmp_path / "run")]
    assert demo.main(arguments) == 2
    assert capsys.readouterr().out.endswith("refused, for the reasons above: int8\n")
    (bench,) = [words for words in ran if words[:2] == ["export", "bench"]]
    assert [word.rsplit("/", 1)[-1] for word in bench[2:]] == [
        "float32.tflite",
        "fp16.tflite",
        "dynamic.tflite",
    ]
    assert ran[-1][:2] == ["export", "report"]
    monkeypatch.setattr(demo, "RECIPES", ("int8",))
    assert demo.main(arguments) == 2
    assert ran[-1][:2] == ["export", "tflite"]
