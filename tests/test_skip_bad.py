"""--skip-bad is given once: the run keeps it for all that comes after the training."""

from __future__ import annotations

import shutil

import pytest
from support.tiny import tiny_classifier

from effkeras.cli import main
from effkeras.support.errors import EffkerasError
from export.savedmodel import exporting


def far_enough(*_):
    """In place of what takes the time after the images of the check are read."""
    raise EffkerasError("the images are read")


@pytest.mark.slow
def test_images_that_cannot_be_read_are_left_out_to_the_end(digit_classes, tmp_path, monkeypatch, capsys):
    data, run, model = tmp_path / "data", tmp_path / "run", tmp_path / "own.toml"
    model.write_text(tiny_classifier().to_toml())
    shutil.copytree(digit_classes, data)
    for split in ("train", "val", "test"):
        sorted(data.glob(f"{split}/*/*.png"))[0].write_bytes(b"no image")
    train = ["train", str(model), "--data", str(data), "--out", str(run), "--epochs", "1", "--batch", "8"]
    assert main(train) == 2
    assert "or leave bad images out with --skip-bad" in capsys.readouterr().err
    assert main([*train, "--skip-bad"]) == 0
    said = capsys.readouterr().err
    assert said.count("the split 'train': left out 1 of") == said.count("the split 'val': left out 1 of") == 1
    for words in (["eval", str(run)], ["export", "tflite", str(run)]):
        assert main([*words, "--data", str(data)]) == 0
        said = capsys.readouterr().err
        assert said.count("is read with --skip-bad, as for the training of") == 1
        assert said.count("the split 'test': left out 1 of") == 1
    monkeypatch.setattr(exporting, "Answering", far_enough)
    assert main(["export", "savedmodel", str(run), "--data", str(data)]) == 2
    said = capsys.readouterr().err
    assert said.count("is read with --skip-bad, as for the training of") == 1
    assert "error: the images are read" in said
    assert main(["eval", str(run / "artifacts" / "int8.tflite"), "--data", str(data)]) == 0
