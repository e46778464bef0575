"""The images of a report: before and after compression, and where the network looks."""

from __future__ import annotations

import os

import pytest
from PIL import Image
from support.report_runs import export_row, write_run
from support.tiny import digits_folder

import effkeras
from effkeras.inference.predictor import KerasPredictor
from effkeras.support.errors import EffkerasError
from export.reporting import comparisons
from quantize.runs.reading import read_run


@pytest.fixture(scope="module", params=["efficientdet-digits", "efficientnet-digits"])
def run(request, tmp_path_factory):
    """A run whose model and artifact are the same network; and the opened files."""
    folder = tmp_path_factory.mktemp("run")
    name = request.param
    classify = name.startswith("efficientnet")
    data = digits_folder(folder / "data", classify=classify, train=1, val=1, test=4)
    row = export_row("int8", 10, 0.8)
    if classify:
        row |= {"float_metrics": {"top1": 0.9}, "artifact_metrics": {"top1": 0.8}}
    run = write_run(folder / "run", [row], name)
    (run / "data.toml").write_text(f'data = "{data}"\n')
    (run / "artifacts").mkdir()
    (run / "artifacts" / "int8.tflite").write_bytes(b"")
    for file in (run / "model.keras", run / "artifacts" / "int8.tflite"):
        os.utime(file, (1, 1))
    opened, predictor = [], KerasPredictor.of(effkeras.build(name, weights="digits"))

    def open_predictor(source):
        opened.append(source)
        return predictor

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparisons, "open_predictor", open_predictor)
        yield run, opened


def test_both_models_run_on_images_once(run, monkeypatch):
    folder, opened = run
    first = comparisons.comparison_sheets(read_run(folder, 0))
    assert [one.title for one in first] == ["Before and after: int8", "Where the network looks"]
    for sheet in first:
        with Image.open(sheet.path) as image:
            assert image.width == 1600
    assert opened == [folder, folder / "artifacts" / "int8.tflite"]
    drawn = []
    monkeypatch.setattr(comparisons, "_draw", lambda *given: drawn.append(given))
    assert comparisons.comparison_sheets(read_run(folder, 0)) == first
    assert drawn == []
    os.utime(folder / "model.keras")  # trained further
    os.utime(first[0].path, (2, 2))
    comparisons.comparison_sheets(read_run(folder, 0))
    assert len(drawn) == 1


def test_a_run_without_images_or_artifact_has_no_sheets(run, tmp_path, monkeypatch, capsys):
    folder, _ = run
    (folder / "evaluation" / "compared-int8.png").unlink(missing_ok=True)

    def broken(source):
        raise EffkerasError("the file is damaged")

    monkeypatch.setattr(comparisons, "open_predictor", broken)
    assert comparisons.comparison_sheets(read_run(folder, 0)) == ()
    assert "no images before and after compression: the file is damaged" in capsys.readouterr().err
    (folder / "data.toml").write_text('data = "/nowhere"\n')
    assert comparisons.comparison_sheets(read_run(folder, 0)) == ()
