"""Classes are known by their names: data that numbers them otherwise is measured and learned alike."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.tiny import tiny_classifier, tiny_detector

from effkeras.data.classes import classes_for, matched, matched_to
from effkeras.data.records import (
    Category,
    ClassificationData,
    ClassificationRecord,
    DetectionData,
    DetectionRecord,
)
from effkeras.data.splits import open_data
from effkeras.definitions.definition import ModelSpec
from effkeras.definitions.imagenet import class_names
from effkeras.detection.coco_metrics import coco_metrics
from effkeras.detection.nms import Detections
from effkeras.support import console
from effkeras.support.errors import EffkerasError

NAMES = ("cat", "dog", "cow", "emu")


@pytest.fixture(autouse=True)
def nothing_noted():
    console._noted.clear()


def model(labels: tuple[str, ...] = NAMES, ids: tuple[int, ...] = (1, 2, 3, 4)) -> ModelSpec:
    spec = tiny_detector().replace(classes=len(labels), labels=labels, category_ids=ids)
    return spec.replace(name="animals")


def nameless(ids: tuple[int, ...] = ()) -> ModelSpec:
    return model(ids=ids).replace(labels=())


def boxes(categories: dict[int, str], shown: list[int], masks: Path | tuple = ()) -> DetectionData:
    """One image with a box of each class of `shown`, an index into the categories."""
    count = len(shown)
    record = DetectionRecord(
        Path("a.png"),
        1,
        (90, 90),
        np.tile(np.float32([1, 2, 30, 40]), (count, 1)),
        np.array(shown, np.int64),
        np.zeros(count, bool),
        np.full(count, 1102, np.float32),
        masks,
    )
    pairs = tuple(Category(*pair) for pair in categories.items())
    return DetectionData(Path("root"), "test", pairs, (record,))


def images(labels: tuple[str, ...], shown: list[int]) -> ClassificationData:
    records = tuple(ClassificationRecord(Path(f"{at}.png"), label) for at, label in enumerate(shown))
    return ClassificationData(Path("root"), "test", labels, records)


def test_names_decide_whatever_ids_and_order_are():
    data = boxes({1: "emu", 2: "cow", 3: "dog", 4: "cat"}, [0, 3, 3, 1])
    found = matched(data, model())
    assert found.labels == NAMES
    assert [category.id for category in found.categories] == [1, 2, 3, 4]
    assert found.records[0].classes.tolist() == [3, 0, 0, 2]
    assert matched(found, model()) is found


def test_some_of_the_classes_are_enough(capsys):
    found = matched(boxes({7: "dog", 9: "emu"}, [0, 1]), model())
    assert (found.labels, found.records[0].classes.tolist()) == (NAMES, [1, 3])
    matched(boxes({7: "dog", 9: "emu"}, [0, 1]), model())
    assert capsys.readouterr().err.splitlines() == [
        "root: the split 'test' has other category ids than animals; classes are matched by name",
        "root: the split 'test' has 2 of the 4 classes of animals, without 'cat', 'cow'",
    ]


def test_a_category_that_nothing_uses_is_left_out_and_noted(capsys):
    data = boxes({0: "animal", 1: "cat", 2: "dog", 3: "cow", 4: "emu"}, [4, 1])
    assert matched(data, model()).records[0].classes.tolist() == [3, 0]
    assert capsys.readouterr().err == (
        "root: the split 'test' lists 'animal', unknown to animals; no annotation uses it\n"
    )


def test_names_are_the_same_with_spaces_around_and_accents_in_both_forms(capsys):
    spec = model(("Ka\u0308fer", " dog"), (1, 2))
    assert matched(boxes({1: "dog ", 2: "K\u00e4fer"}, [0, 1]), spec).records[0].classes.tolist() == [1, 0]
    assert "by name" in capsys.readouterr().err


def test_folders_in_another_order_or_fewer_are_matched_by_name():
    spec = tiny_classifier().replace(classes=4, labels=NAMES)
    found = matched(images(("emu", "cat"), [0, 1, 0]), spec)
    assert found.labels == NAMES
    assert [record.label for record in found.records] == [3, 0, 3]


@pytest.mark.parametrize(
    ("ids", "classes", "how"), [((9, 1, 4, 7), [1, 3], "category id"), ((), [0, 1], "position")]
)
def test_without_names_ids_decide_and_else_positions(ids, classes, how, capsys):
    data = boxes({1: "cat", 7: "dog", 8: "x", 6: "y"}, [0, 1])
    assert matched(data, nameless(ids)).records[0].classes.tolist() == classes
    said = f"root: the split 'test' is matched by {how} of classes, as animals has no class names\n"
    assert capsys.readouterr().err == said


@pytest.mark.parametrize(
    ("data", "spec", "message"),
    [
        (
            boxes({1: "one", 2: "two"}, [0, 1]),
            model(),
            "root: the split 'test' has the classes 'one', 'two', and animals has 'cat', 'dog', 'cow', "
            "'emu'; give the same classes the same names, and leave others out",
        ),
        (boxes({1: "cat", 2: "DOG"}, [0, 1]), model(), "did you mean 'dog' by 'DOG'? give the same"),
        (
            boxes({1: "cat", 2: "cat"}, [0, 1]),
            model(),
            "two classes named 'cat'; give each a name of its own",
        ),
        (boxes({1: "cat"}, [0]), nameless(), "root has 1 classes and animals 4, without names"),
        (boxes({1: "cat", 2: "ox"}, [0], Path("a.png")), model(), "has the classes 'ox'"),
        (images(NAMES, [0]), model(), "root does not fit animals, which needs images with boxes"),
    ],
)
def test_what_cannot_be_matched_is_refused(data, spec, message):
    with pytest.raises(EffkerasError) as error:
        matched(data, spec)
    assert message in str(error.value)


def test_two_classes_of_one_name_cannot_be_learned():
    with pytest.raises(EffkerasError, match="root: the split 'test' has two classes named 'cat'"):
        classes_for(model(), boxes({1: "cat", 2: "cat "}, [0, 1]))
    with pytest.raises(EffkerasError, match="root: the split 'test' has two classes named 'cat'"):
        classes_for(model(), boxes({1: "cat", 2: "cat"}, [1]))  # only one is used, but both are classes


def test_one_class_cannot_be_learned_by_a_classifier():
    with pytest.raises(EffkerasError, match="the one class 'cat', which a classifier would always answer"):
        classes_for(tiny_classifier(), images(("cat",), [0, 0]))
    assert classes_for(model(), boxes({1: "cat"}, [0])).labels == ("cat",)  # a detector also finds none


def test_folders_called_by_numbers_get_advice():
    """Twenty folders of ImageNet, and a model of a thousand classes, with names or without."""
    data = images(("n01440764", "n01443537"), [0, 1])
    thousand = tiny_classifier().replace(classes=1000, labels=())
    with pytest.raises(
        EffkerasError, match=r"2 classes and tiny.* 1000, without .*labels\.txt .* 1000 lines"
    ):
        matched(data, thousand)
    with pytest.raises(EffkerasError, match="numbers: give the folders the names of the classes"):
        matched(data, thousand.replace(labels=tuple(f"class {number}" for number in range(1000))))


def test_folders_called_by_wordnets_numbers_are_imagenets_classes():
    spec = tiny_classifier().replace(classes=1000, labels=class_names())
    found = matched(images(("n01443537", "n01440764", "hen"), [0, 1, 2]), spec)
    assert [record.label for record in found.records] == [1, 0, class_names().index("hen")]
    numbers = tiny_classifier().replace(classes=2, labels=("n01440764", "n01443537"))
    assert matched(images(("goldfish",), [0]), numbers).records[0].label == 1


def test_values_of_label_maps_are_matched_too():
    data = boxes({1: "emu", 2: "cat"}, [], Path("a.png"))
    found = matched(data, model())
    assert found.map_classes == (3, 0)
    assert matched(found, model(NAMES[::-1])).map_classes == (0, 3)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.permutations(range(4)), st.permutations([2, 3, 5, 90]))
def test_any_numbering_gives_the_same_metrics(seed, order, ids):
    """Boxes of random classes, the last class never shown; the data lists its classes in any order."""
    random = np.random.default_rng(seed)
    records, renumbered, found = [], [], {}
    place = np.argsort(order)
    for identity in range(4):
        low = random.uniform(0, 50, (4, 2))
        corners = np.concatenate([low, low + random.uniform(5, 40, (4, 2))], axis=1).astype(np.float32)
        classes = random.integers(0, 3, 4)
        sides = np.prod(corners[:, 2:] - corners[:, :2], axis=1)
        one = DetectionRecord(
            Path("a"), identity, (100, 100), corners, classes, np.zeros(4, bool), sides.astype(np.float32)
        )
        records.append(one)
        renumbered.append(dataclasses.replace(one, classes=place[classes]))
        guesses = np.where(random.uniform(size=4) < 0.7, classes, random.integers(0, 4, 4))
        found[identity] = Detections(corners, random.uniform(size=4).astype(np.float32), guesses)
    plain = DetectionData(Path("r"), "t", tuple(map(Category, range(1, 5), NAMES)), tuple(records))
    listed = [Category(identity, NAMES[label]) for identity, label in zip(ids, order, strict=True)]
    fewer = [category for category in listed if category.name != NAMES[3]]
    wanted = coco_metrics(plain, found)
    assert coco_metrics(matched(plain, model()), found) == wanted
    other = dataclasses.replace(plain, categories=tuple(listed), records=tuple(renumbered))
    assert coco_metrics(matched(other, model()), found) == wanted
    names = [category.name for category in fewer]
    own = [
        dataclasses.replace(one, classes=np.array([names.index(NAMES[label]) for label in one.classes]))
        for one in records
    ]
    other = dataclasses.replace(plain, categories=tuple(fewer), records=tuple(own))
    assert coco_metrics(matched(other, model()), found) == wanted


def renamed_ids(root: Path, split: str, out: Path, numbering: dict[int, int]) -> Path:
    """A copy of COCO data whose split has other category ids, listed in their order."""
    shutil.copytree(root, out)
    file = out / split / "labels.json"
    content = json.loads(file.read_text())
    content["categories"] = [
        {**one, "id": numbering[one["id"]]} for one in content["categories"] if one["id"] in numbering
    ]
    for one in content["annotations"]:
        one["category_id"] = numbering[one["category_id"]]
    file.write_text(json.dumps(content))
    return out


def numberings(root: Path, split: str) -> dict[str, dict[int, int]]:
    """Reversed ids, and only those of the split's own classes, from 1 on."""
    data = open_data(root, split)
    own = sorted({data.categories[label].id for one in data.records for label in one.classes}, reverse=True)
    return {
        "reversed": {one.id: 11 - one.id for one in data.categories},
        "own": {one: position for position, one in enumerate(own, 1)},
    }


@pytest.fixture(scope="module")
def detector():
    import effkeras
    from effkeras.definitions.zoo import definition_path
    from effkeras.inference.predictor import KerasPredictor

    path = definition_path("efficientdet-digits").parent / "digits.keras"
    return KerasPredictor.of(effkeras.load(path))


def test_a_detector_has_the_same_ap_on_other_ids(digits, detector, tmp_path):
    from effkeras.inference.compare import measure
    from effkeras.inference.evaluate import evaluate

    data = open_data(digits, "test")
    wanted = evaluate(detector, data)
    assert wanted["AP"] > 0.3
    for kind, numbering in numberings(digits, "test").items():
        other = open_data(renamed_ids(digits, "test", tmp_path / kind, numbering), "test")
        assert evaluate(detector, other) == wanted
    assert measure(detector, other).outcomes.value == measure(detector, data).outcomes.value


def in_other_order(root: Path, out: Path, without: str = "7") -> Path:
    """A copy of class folders whose list is reversed and lacks a class."""
    shutil.copytree(root, out)
    for folder in out.glob(f"*/{without}"):
        shutil.rmtree(folder)
    (out / "labels.txt").write_text("".join(f"{d}\n" for d in range(9, -1, -1) if str(d) != without))
    return out


class KnowsTheName:
    """A classifier that is right whenever the folder is."""

    def __init__(self, spec: ModelSpec, data: ClassificationData):
        self.spec = spec
        self._paths = iter([record.path for record in data.records])

    def __call__(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        names = [next(self._paths).parent.name for _ in pixels]
        return {"classes": np.eye(10)[[self.spec.labels.index(name) for name in names]]}


def test_a_classifier_has_the_same_top1_on_folders_in_another_order(digit_classes, tmp_path):
    from effkeras.inference.evaluate import evaluate

    data = open_data(in_other_order(digit_classes, tmp_path / "d"), "test")
    assert evaluate(KnowsTheName(tiny_classifier(), data), data) == {"top1": 1, "top5": 1}


class CaughtError(Exception):
    """Ends a training where its data are known."""


def test_compression_trains_towards_the_models_classes(digits, tmp_path, monkeypatch):
    from effkeras.training import loop
    from effkeras.training.settings import TrainSettings

    seen = []

    def store(data, *_):
        seen.append(data)
        raise CaughtError

    monkeypatch.setattr(loop, "ImageStore", store)
    root = renamed_ids(digits, "train", tmp_path / "d", numberings(digits, "train")["reversed"])
    job = loop.TuneJob(
        None, tiny_detector(), open_data(root, "train"), None, TrainSettings(), tmp_path / "out"
    )
    with pytest.raises(CaughtError):
        loop.tune(job)
    wanted = [record.classes.tolist() for record in open_data(digits, "train").records]
    assert [record.classes.tolist() for record in seen[0].records] == wanted


def test_importance_is_of_the_models_classes(digit_classes, tmp_path):
    from effkeras.building.models import build_spec
    from quantize.channels.importance import batches_of

    spec = tiny_classifier()
    network = build_spec(spec)
    plain, other = digit_classes, in_other_order(digit_classes, tmp_path / "d", without="none")
    targets = [
        np.sort(np.concatenate([np.asarray(y) for _, y in batches_of(network, open_data(one, "val"))]))
        for one in (plain, other)
    ]
    np.testing.assert_array_equal(*targets)


def test_validation_is_matched_with_the_classes_that_are_trained(digits, tmp_path, monkeypatch):
    from effkeras.training import loop
    from effkeras.training.settings import TrainSettings

    root = renamed_ids(digits, "val", tmp_path / "d", numberings(digits, "val")["own"])
    jobs = []

    def session(job, *_):
        jobs.append(job)
        raise CaughtError

    monkeypatch.setattr(loop, "session_of", session)
    train, val = open_data(root, "train"), open_data(root, "val")
    with pytest.raises(CaughtError):
        loop.train(loop.Job(tiny_detector(), train, val, TrainSettings(), tmp_path / "run"))
    assert jobs[0].validation.labels == jobs[0].spec.labels == train.labels
    wanted = [record.classes.tolist() for record in open_data(digits, "val").records]
    assert [record.classes.tolist() for record in jobs[0].validation.records] == wanted


def test_a_search_validates_on_the_classes_that_it_trains(digits, tmp_path):
    from effkeras.search.evaluation.images import open_splits

    root = renamed_ids(digits, "val", tmp_path / "d", numberings(digits, "val")["own"])
    splits = open_splits(root)
    wanted = [record.classes.tolist() for record in open_data(digits, "val").records]
    assert splits.validation.labels == splits.train.labels
    assert [record.classes.tolist() for record in splits.validation.records] == wanted
    strange = boxes({1: "zebra"}, [0])
    with pytest.raises(EffkerasError, match="has the classes 'zebra', and the split 'train' has '0', '1'"):
        matched_to(strange, splits.train)


def test_compression_refuses_other_classes_before_any_work(digits, tmp_path):
    from quantize.splits import Splits

    with pytest.raises(EffkerasError, match=r"'val' has the classes '0', .*, and animals has 'cat'"):
        Splits.open(digits, model())
