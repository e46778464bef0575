"""A run folder keeps how its data were read."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest
from support.tiny import tiny_classifier

from effkeras.data.contents import Contents
from effkeras.data.records import ReadOptions
from effkeras.data.splits import open_data
from effkeras.support import results
from effkeras.support.errors import EffkerasError
from effkeras.training.checkpoint import load_checkpoint
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


def changed(data, number, **changes):
    records = list(data.records)
    records[number] = dataclasses.replace(records[number], **changes)
    return dataclasses.replace(data, records=tuple(records))


def test_changes_of_data_are_said(digits):
    data = open_data(digits, "train")
    before, first = Contents.of(data), data.records[0]

    def said(other):
        return Contents.of(other).changes(before)

    none = {name: getattr(first, name)[:0] for name in ("boxes", "classes", "crowd", "areas")}
    count, annotations = before.images, before.annotations
    assert said(data) == ""
    assert said(dataclasses.replace(data, records=data.records[1:])) == (
        f"{count - 1} images, where there were {count}"
    )
    assert said(changed(data, 0, path=first.path.with_name("other.png"))) == (
        f"{count} images as before, with other names or in another order"
    )
    assert said(changed(data, 0, **none)) == (
        f"{annotations - len(first.boxes)} annotations, where there were {annotations}"
    )
    assert said(changed(data, 0, boxes=first.boxes + 1)) == "the same images with other labels"
    renamed = dataclasses.replace(data.categories[0], name="nought")
    other = dataclasses.replace(data, categories=(renamed, *data.categories[1:]))
    assert said(other) == "other names of classes"


def test_a_resumed_training_compares_its_data(digits, tmp_path, capsys):
    """Without the comparison, a training went on with other labels, and said nothing."""
    train, val = (open_data(digits, split) for split in ("train", "val"))
    run = Run(tmp_path)
    other = changed(train, 0, boxes=train.records[0].boxes + 1)
    run.keep_data(train, val)
    run.check_data(other, val, accept=False)  # nothing is trained yet
    run.checkpoint.touch()
    run.check_data(train, val, accept=False)
    with pytest.raises(EffkerasError, match="train has the same images with other labels; give"):
        run.check_data(other, val, accept=False)
    with pytest.raises(EffkerasError, match="there is no val any more"):
        run.check_data(train, None, accept=False)
    run.check_data(other, None, accept=True)
    assert "so far: train has the same images with other labels; there is no val" in capsys.readouterr().err
    run.keep_data(other)
    run.check_data(other, None, accept=False)
    with pytest.raises(EffkerasError, match="there is a val now"):
        run.check_data(other, val, accept=False)


def test_a_run_of_an_earlier_version_goes_on(digits, tmp_path):
    run = Run(tmp_path)
    run.checkpoint.touch()
    run.check_data(open_data(digits, "train"), None, accept=False)
    run.data.write_text(f'data = "{digits}"\n')
    run.check_data(open_data(digits, "train"), None, accept=False)


def test_the_row_of_a_validation_is_there_once(tmp_path):
    """The checkpoint holds it: a kill before it was written lost it, and one after it wrote it twice."""
    run = Run(tmp_path)
    rows = [{"kind": "epoch", "step": step, "loss": 0.5} for step in (10, 20)]
    run.keep_row({})
    for row in (rows[0], rows[0], rows[1], rows[1]):
        run.keep_row(row)
    results.append(run.results, [{"kind": "evaluation"}])
    run.keep_row(rows[1])
    assert results.read(run.results) == [*rows, {"kind": "evaluation"}]
    run.keep_row(rows[0])  # the checkpoint was deleted, and the training began again
    assert len(results.read(run.results)) == 4


def read_all(run, data):
    run.check(tiny_classifier(), TrainSettings())
    kept_options(run.folder, data, ReadOptions())
    load_checkpoint(run.checkpoint, [])
    assert run.kept_settings() == TrainSettings()
    raise EffkerasError(f"{run.settings} is damaged (empty); delete it, and give RUN its settings again")


@pytest.mark.parametrize("content", [b"\xff\xfe\0", b"skip_bad = [", b"a = 1\n", bytes(1000)])
@pytest.mark.parametrize(
    ("name", "cost"),
    [
        ("settings", "give .* its settings again"),
        ("definition", "it is written anew"),
        ("data", "say again how the data are read"),
        ("checkpoint", "the training starts again"),
    ],
)
def test_a_damaged_work_file_is_one_line(name, cost, content, run, digit_classes):
    file = getattr(run, name)
    np.savez(run.checkpoint, progress=np.zeros(2, np.uint8))
    file.write_bytes(content)
    with pytest.raises(EffkerasError) as caught:
        read_all(run, digit_classes)
    message = str(caught.value)
    assert re.search(rf"{file} is damaged \(.*\); delete it, and .*{cost}", message), message
    assert len(message.replace(str(run.folder), "")) < 400
    assert "\n" not in message
