"""A run folder keeps how its data were read."""

from __future__ import annotations

import pytest
from support.tiny import tiny_classifier

from effkeras.data.records import ReadOptions
from effkeras.data.splits import open_data
from effkeras.support.errors import EffkerasError
from effkeras.training.run import Run, kept_options
from effkeras.training.settings import TrainSettings


@pytest.fixture
def run(digit_classes, tmp_path):
    made = Run(tmp_path / "run")
    made.start(tiny_classifier(), TrainSettings())
    made.keep_data(open_data(digit_classes, "train", skip_bad=True, one_based=True))
    for name in ("artifacts/a.tflite", "compressed/int8/model.keras", "model.keras"):
        (made.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (made.folder / name).touch()
    return made


@pytest.mark.parametrize("part", ["", "model.keras", "artifacts/a.tflite", "compressed/int8/model.keras"])
def test_everything_in_a_run_reads_its_data_alike(run, digit_classes, part, capsys):
    found = kept_options(run.folder / part, digit_classes, ReadOptions(masks=True))
    assert found == ReadOptions(skip_bad=True, masks=True, one_based=True)
    assert "is read with --skip-bad and --voc-one-based, as for the training" in capsys.readouterr().err


def test_given_options_and_other_data_stay(run, digit_classes, digits, capsys):
    given = ReadOptions(skip_bad=True, one_based=True)
    assert kept_options(run.folder, digit_classes, given) == given
    assert kept_options(run.folder, digits, ReadOptions()) == ReadOptions()
    assert kept_options("efficientnet-b0", digit_classes, ReadOptions()) == ReadOptions()
    assert capsys.readouterr().err == ""


def test_a_folder_without_these_facts_changes_nothing(run, digit_classes):
    run.data.unlink()
    assert kept_options(run.folder, digit_classes, ReadOptions()) == ReadOptions()


def test_a_damaged_file_is_named(run, digit_classes):
    run.data.write_text("skip_bad = 3\n")
    with pytest.raises(EffkerasError, match=r"data\.toml"):
        kept_options(run.folder, digit_classes, ReadOptions())
