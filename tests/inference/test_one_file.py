"""One file adds a task, or a file format of artifacts: predict, evaluate, compare and drawing find it."""

from __future__ import annotations

import numpy as np
import pytest
from support.one_file import add_module
from support.tiny import tiny_classifier

from effkeras.data.splits import open_data
from effkeras.inference.compare import Measured, compare, measure
from effkeras.inference.evaluate import headlines
from effkeras.inference.predict import drawn, predict
from effkeras.inference.predictor import ARTIFACTS, open_predictor
from effkeras.inference.task import TASKS

TASK = '''
"""Brightness: how bright an image is, told by a model whose name ends in "brightness"."""

import numpy as np

from effkeras.inference.task import TASKS, Outcomes, Task


class Brightness(Task):
    model = "light meter"
    metric = "bright"
    meaning = "bright is the mean brightness of the images."

    def applies(self, spec):
        return spec.name.endswith("brightness")

    def describe(self, spec, min_score):
        return lambda outputs, placement: {"brightness": float(outputs["brightness"])}

    def draw(self, record, drawing):
        if "brightness" in record:
            drawing.add_line(f"brightness {record['brightness']}")

    def judge(self, spec, data):
        return Judge(self)

    def outcomes(self, arrays):
        values = arrays["values"]
        mean = lambda weights: float(values @ weights / weights.sum())
        return Outcomes("bright", len(values), mean, arrays)


class Judge:
    def __init__(self, task):
        self.task, self.values = task, []

    def add(self, record, placement, outputs):
        self.values.append(float(outputs["brightness"]))

    def metrics(self):
        return {"bright": float(np.mean(self.values))}

    def outcomes(self):
        return self.task.outcomes({"values": np.array(self.values)})


TASKS.register("brightness")(Brightness())
'''

FORMAT = '''
"""A text file that holds the brightness of all images."""

import numpy as np
from support.tiny import tiny_classifier

from effkeras.inference.predictor import ARTIFACTS, ArtifactFormat


class Constant:
    def __init__(self, path):
        self.value = float(path.read_text())
        self.spec = tiny_classifier().replace(name="tiny-brightness")

    def __call__(self, pixels):
        return {"brightness": np.full(len(pixels), self.value)}


ARTIFACTS.register("brightness_file")(ArtifactFormat(lambda path: path.suffix == ".brightness", Constant))
'''


@pytest.fixture
def added(tmp_path, monkeypatch):
    """A task and a file format for one test; gives a file of that format."""
    for registry, name, source in ((TASKS, "brightness", TASK), (ARTIFACTS, "brightness_file", FORMAT)):
        folder = tmp_path / name
        folder.mkdir()
        add_module(registry, name, source, folder, monkeypatch)
    file = tmp_path / "net.brightness"
    file.write_text("0.25")
    return file


@pytest.fixture
def predictor(added, monkeypatch):
    """The new file's predictor; its model is a classifier too, whose output it lacks."""
    monkeypatch.setattr(type(TASKS.get("classification")), "applies", lambda self, spec: False)
    return open_predictor(added)


def test_predict_evaluate_and_compare_find_the_task(predictor, digit_classes, tmp_path):
    data = open_data(digit_classes, "test")
    assert headlines(predictor.spec) == ("bright",)
    measured = measure(predictor, data, limit=4)
    assert measured.metrics == {"bright": 0.25}
    measured.save(tmp_path / "measured.npz")
    again = Measured.load(tmp_path / "measured.npz")
    drop = compare(measured.outcomes, again.outcomes)
    assert (drop.metric, drop.before, drop.drop) == ("bright", 0.25, 0)
    (record,) = predict(predictor, [data.records[0].path], 0.0)
    assert record["brightness"] == 0.25


def test_the_task_draws_its_part_of_a_record(added):
    gray = np.full((400, 400, 3), 128, np.uint8)
    assert np.array_equal(drawn({}, gray), gray)
    assert not np.array_equal(drawn({"brightness": 1.0}, gray), gray)


def test_other_models_do_not_get_the_task(added):
    assert headlines(tiny_classifier()) == ("top1",)
