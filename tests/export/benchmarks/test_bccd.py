"""`make bench-bccd`'s program: its parts are valid, and a run's rows are those of `effkeras eval`."""

from __future__ import annotations

import json

import pytest

from effkeras import cli
from effkeras.training.checkpoint import Progress, save_checkpoint
from export.benchmarks import bccd
from quantize import recipes

EVAL = {"kind": "eval", "artifact": "model.keras", "images": 72, "metrics": {"AP": 0.6, "AP50": 0.9}}


def voc(folder, images: int):
    """A Pascal VOC folder with so many names of training images."""
    file = folder / "ImageSets" / "Main" / "train.txt"
    file.parent.mkdir(parents=True)
    file.write_text("".join(f"image{number}\n" for number in range(images)))
    return folder


def test_names_are_unique_and_bases_come_before():
    names = [run.name for runs in bccd.parts().values() for run in runs]
    assert len(set(names)) == len(names)
    for runs in bccd.parts().values():
        for run in runs:
            assert bool(run.train) != bool(run.quantize and run.base in names[: names.index(run.name)])


@pytest.mark.parametrize(
    "run", [run for runs in bccd.parts().values() for run in runs], ids=lambda run: run.name
)
def test_what_a_run_asks_for_exists(run, tmp_path, capsys):
    """`train` checks options and settings before it looks for the data, which are not there."""
    if run.quantize:
        assert recipes.find(run.quantize[run.quantize.index("--recipe") + 1]).trains
        return
    settings = ["--config", str(tmp_path / "settings.toml")] if run.settings else []
    (tmp_path / "settings.toml").write_text(run.settings)
    data = str(tmp_path / "gone")
    assert cli.main(["train", *run.train, *settings, "--data", data, "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert data in error


def test_few_images_are_spread_over_the_split(tmp_path):
    few = bccd.few_images(voc(tmp_path / "all", 100), tmp_path / "few", 4)
    assert (few / "ImageSets/Main/train.txt").read_text().split() == [
        "image0",
        "image25",
        "image50",
        "image75",
    ]


def test_rows_are_those_of_eval(tmp_path, monkeypatch):
    """The commands are not run; what they would write is."""
    ran = []

    def command(words):
        ran.append(words)
        folder = tmp_path / "runs" / "mine"
        if words[0] == "train":
            (folder / "artifacts").mkdir(parents=True)
            (folder / "model.keras").write_bytes(b"12345")
            save_checkpoint(folder / "checkpoint.npz", [], Progress(seconds=90))
        elif words[0] == "quantize":
            made = tmp_path / "runs" / "small"
            (made / "artifacts").mkdir(parents=True)
            (made / "artifacts" / "prune50-int8.tflite").write_bytes(b"12")
            (made / "results.jsonl").write_text(json.dumps(EVAL) + "\n")
        elif words[0] == "export":
            (folder / "artifacts" / "coral.tflite").write_bytes(b"123")
        else:
            (folder / "results.jsonl").write_text(json.dumps(EVAL) + "\n")
        return 0

    monkeypatch.setattr(bccd.cli, "main", command)
    run = bccd.BccdRun("mine", ("efficientdet-lite0",), settings="ema = 0.0", images=2, consumers=("coral",))
    rows = bccd.perform(run, voc(tmp_path / "all", 5), tmp_path / "runs")
    assert [(row["artifact"], row["bytes"], row["metrics"]["AP"], row["minutes"]) for row in rows] == [
        ("model.keras", 5, 0.6, 1.5),
        ("coral.tflite", 3, 0.6, 1.5),
    ]
    assert [words[0] for words in ran] == ["train", "export", "eval", "eval"]
    assert (tmp_path / "runs" / "mine.toml").read_text() == "ema = 0.0"
    small = bccd.BccdRun("small", base="mine", quantize=("--recipe", "prune50-int8"))
    (row,) = bccd.perform(small, tmp_path / "all", tmp_path / "runs")
    assert (row["artifact"], row["bytes"]) == ("prune50-int8.tflite", 2)


def test_mistakes_are_one_line(tmp_path, capsys):
    assert bccd.main(["--data", str(tmp_path / "gone")]) == 2
    assert bccd.main(["defaultz", "--data", str(tmp_path)]) == 2
    assert "did you mean 'defaults'" in capsys.readouterr().err


def test_what_starts_from_a_run_needs_it(tmp_path):
    run = bccd.BccdRun("small", base="defaults", quantize=("--recipe", "int8"))
    with pytest.raises(bccd.EffkerasError, match="run that part first"):
        bccd.perform(run, voc(tmp_path / "all", 5), tmp_path / "runs")
