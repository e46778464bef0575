"""Model cards: what they say comes from the rows, and what is not known is said so."""

from __future__ import annotations

import json

import pytest
from support.report_runs import export_row, full_rows, write_run

from effkeras import EffkerasError
from effkeras.definitions import zoo
from effkeras.support import results
from export.report import write_report
from quantize.runs.cards import write_card
from quantize.runs.reading import read_run


@pytest.fixture
def run(tmp_path):
    row = export_row("int8", 498_765, 0.8391, interval=[-0.001, 0.006], lost_classes=["7"])
    row |= {
        "float_classes": {"3": 0.99, "7": 0.95},
        "artifact_classes": {"3": 0.98, "7": 0.70},
        "for": "coral",
    }
    folder = write_run(tmp_path / "run", [*full_rows()[:4], row, *full_rows()[8:]])
    (folder / "artifacts").mkdir()
    (folder / "artifacts" / "int8.tflite").write_bytes(b"")
    kept = 'data = "/home/me/<b>"\nstart = "digits"\n[splits.train]\nimages = 2000\n'
    (folder / "data.toml").write_text(kept)
    return folder


def test_a_card_lies_beside_every_artifact(run):
    write_report([run])
    (card,) = (run / "artifacts").glob("*.md")
    text = card.read_text()
    assert text.startswith("# efficientdet-digits: int8.tflite\n")
    for said in (
        "A detector of 10 classes: 0, 1, 2",
        "- Made for: coral",
        "- Data set: &lt;b&gt; (2,000 images of train)",
        "Measured on 500 images of test.",
        "| AP | 0.8420 | 0.8391 |",
        "| AP50 of 7 | 0.9500 | 0.7000 |",
        "The drop by compression is 0.0029 AP, with 95 % confidence within -0.0010 to 0.0060.",
        "- File: 498.8 kB",
        f"thread on {results.environment()['machine']['cpu']}: 1.21 ms, p95 1.43 ms",
        "- 7 lost a fifth or more of its metric.",
        "- The weakest class is 7, 0.7000.",
        "- Weights that the training started from: Apache-2.0",
    ):
        assert said in text


def test_a_card_of_an_export_alone(tmp_path):
    row = export_row("int8", 1000, 0.0, artifact="my.tflite")
    for key in ("split", "images", "float_metrics", "artifact_metrics", "drop", "metric"):
        del row[key]
    card = write_card(tmp_path / "my.tflite", zoo.spec("efficientdet-digits"), row, None)
    assert card == tmp_path / "my.md"
    text = card.read_text()
    for said in (
        "Accuracy: not measured.",
        "- Latency: not measured",
        "- Data set: not recorded",
        "not recorded",
    ):
        assert said in text


def test_damaged_rows_of_others_do_not_keep_a_card_from_being_written(run):
    with (run / "results.jsonl").open("a") as file:
        file.write('{"kind": "latency", "artifact": 3}\n')
    row = export_row("int8", 498_765, 0.8391)
    card = write_card(run / "artifacts" / "int8.tflite", zoo.spec("efficientdet-digits"), row, run)
    assert "| AP | 0.8420 | 0.8391 |" in card.read_text()


def test_what_a_row_does_not_need_may_be_of_any_kind(tmp_path):
    row = export_row("int8", 9, 0.8, lost_classes=5, beside=True, interval=[10**400, 1], drop=10**400)
    run = write_run(tmp_path / "run", [row])
    (run / "artifacts").mkdir()
    (run / "artifacts" / "int8.json").write_text("[" * 100_000)
    (run / "data.toml").write_text("splits = {train = 3, val = {images = 'some'}}")
    read = read_run(run, 0)
    one = next(one for one in read.artifacts if one.file == "int8.tflite")
    assert (one.lost, one.float_size, one.interval, one.layers) == ((), None, None, ())
    assert read.trained.splits == {}
    (run / "results.jsonl").write_text(json.dumps(row | {"bytes": 10**400}) + "\n")
    with pytest.raises(EffkerasError, match="not a whole number; remove that row"):
        read_run(run, 0)
