from __future__ import annotations

import errno
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from support.eager import outputs_of_model
from support.tiny_models import quantized, random_images, tiny_model, tiny_spec, with_last_weights

from effkeras import EffkerasError
from effkeras.data.formats.class_folders import write_folder
from effkeras.data.splits import open_data
from effkeras.detection.nms import BOXES, Decoder
from effkeras.litert.flatbuffer import operators, real_constants
from effkeras.litert.rewriting import with_constants
from effkeras.support import files, replacing
from export.consumers.consumer import target_for
from export.finishing import with_nms
from quantize.checks import Checked, Reference, check_file, write_checked
from quantize.comparison import Agreement, agreements, drawn_images, images_of
from quantize.formats import find as recipe
from quantize.post_training.calibration import representative

CLASSIFIER = "efficientnet-lite0"
DETECTOR = "efficientdet-lite0"


def reference(name: str, made_as: str = "float32") -> Reference:
    return Reference(tiny_model(name), random_images(4), made_as)


def look(tmp_path: Path, flatbuffer: bytes, name: str, made_as: str = "float32") -> Checked:
    file = tmp_path / "net.tflite"
    file.write_bytes(flatbuffer)
    return check_file(file, reference(name, made_as))


@pytest.mark.parametrize("name", [CLASSIFIER, DETECTOR])
def test_a_float_file_computes_what_the_model_computes(name, tmp_path):
    checked = look(tmp_path, quantized(name, "float32").flatbuffer, name)
    assert (checked.problems, checked.notes, checked.images) == ((), (), 4)
    assert {one.output for one in checked.agreements} == (
        {"probabilities"} if name == CLASSIFIER else {"class_logits", "box_deltas"}
    )
    assert max(one.error for one in checked.agreements) < 1e-3


def test_int8_is_reported_and_not_judged(tmp_path):
    checked = look(tmp_path, quantized(DETECTOR, "int8").flatbuffer, DETECTOR, "int8")
    assert checked.problems == ()
    assert 0.001 < max(one.error for one in checked.agreements) < 0.5
    assert "% of its spread" in str(checked.agreements[0])


def test_nan_is_refused(tmp_path):
    broken = with_last_weights(quantized(CLASSIFIER, "float32").flatbuffer, lambda values: values * np.nan)
    (problem,) = look(tmp_path, broken, CLASSIFIER).problems
    assert "values of probabilities are NaN or infinite" in problem


@pytest.mark.parametrize("made_as", ["float32", "int8"])
def test_the_same_for_every_image_is_refused(made_as, tmp_path):
    broken = with_last_weights(quantized(CLASSIFIER, made_as).flatbuffer, np.zeros_like)
    problems = look(tmp_path, broken, CLASSIFIER, made_as).problems
    assert problems == ("probabilities is the same for all of 4 images, and the model's is not",)


def sure_of(index: int, shown: np.ndarray, least: float):
    """A classifier that gives every image `least` and more for one class."""
    import keras

    model = keras.models.clone_model(tiny_model(CLASSIFIER))
    model.set_weights(tiny_model(CLASSIFIER).get_weights())
    last = model.get_layer("logits")
    last.kernel.assign(last.kernel * 0.5)
    logits = outputs_of_model(keras.Model(model.input, last.output), shown)
    against = np.exp(logits - logits[:, [index]]).sum(axis=-1) - 1
    bias = last.bias.numpy()
    bias[index] += np.log(against.max() * least / (1 - least))
    last.bias.assign(bias)
    return model


def test_the_same_top_code_for_every_image_is_no_reason_to_refuse(tmp_path):
    """8-bit probabilities end at 255/256, which stands for all from 0.9941 on."""
    flatbuffer = quantized(CLASSIFIER, "int8", "int8").flatbuffer
    dense = next(op for op in operators(flatbuffer) if op.name == "FULLY_CONNECTED")
    found = real_constants(flatbuffer, [tensor.index for tensor in dense.inputs[1:]])
    kernel, bias = found
    values = {kernel: found[kernel].values * 0, bias: np.array([-9.0, 9.0, -9.0])}
    file = tmp_path / "net.tflite"
    file.write_bytes(with_constants(flatbuffer, {i: found[i].codes_of(values[i]) for i in found}))
    shown = random_images(4)
    sure = sure_of(1, shown, 0.9945)
    assert np.ptp(outputs_of_model(sure, shown)[:, 1]) > 1 / 256
    assert check_file(file, Reference(sure, shown, "int8")).problems == ()
    assert check_file(file, Reference(sure_of(1, shown, 0.98), shown, "int8")).problems
    assert check_file(file, Reference(tiny_model(CLASSIFIER), shown, "int8")).problems


def test_float_that_computes_something_else_is_refused(tmp_path):
    broken = with_last_weights(quantized(CLASSIFIER, "float32").flatbuffer, lambda values: values * 0.7)
    (problem,) = look(tmp_path, broken, CLASSIFIER).problems
    assert "should compute what the model computes" in problem
    assert look(tmp_path, broken, CLASSIFIER, "int8").problems == ()


def test_a_file_that_does_not_run_is_refused(tmp_path):
    (problem,) = look(tmp_path, quantized(CLASSIFIER, "float32").flatbuffer[:-900], CLASSIFIER).problems
    assert problem.startswith("it does not run: ")


def test_a_model_that_says_nothing_is_noted(tmp_path):
    """Random weights may do so; the file is faithful."""
    import keras

    model = keras.models.clone_model(tiny_model(CLASSIFIER))
    model.set_weights(tiny_model(CLASSIFIER).get_weights())
    model.get_layer("logits").kernel.assign(model.get_layer("logits").kernel * 0)
    broken = with_last_weights(quantized(CLASSIFIER, "float32").flatbuffer, np.zeros_like)
    file = tmp_path / "net.tflite"
    file.write_bytes(broken)
    checked = check_file(file, Reference(model, random_images(4), "float32"))
    assert checked.problems == ()
    assert "is it trained?" in checked.notes[0]


def test_boxes_of_an_artifact_with_nms_are_found_again(tmp_path):
    spec = tiny_spec(DETECTOR)
    target = target_for("mediapipe", recipe("float32"), nms="soft")
    file = tmp_path / "net.tflite"
    file.write_bytes(with_nms(quantized(DETECTOR, "float32").flatbuffer, spec, target))
    checked = check_file(file, Reference(tiny_model(DETECTOR), random_images(4), "float32", Decoder.of(spec)))
    found = {one.output: one for one in checked.agreements}
    assert found.keys() == {"class_logits", "box_deltas", BOXES}
    assert found[BOXES].found == found[BOXES].sure > 0
    assert max(one.error for one in checked.agreements) < 1e-3
    assert checked.problems == ()


@pytest.mark.parametrize("kind", ["soft", "postprocess"])
def test_heads_inside_are_looked_at(kind, tmp_path):
    target = target_for("mediapipe", recipe("float32"), nms=kind)
    network = with_last_weights(quantized(DETECTOR, "float32").flatbuffer, lambda values: values * 0.7)
    problems = look(tmp_path, with_nms(network, tiny_spec(DETECTOR), target), DETECTOR).problems
    assert any("should compute what the model computes" in problem for problem in problems)


def test_agreements_read_well():
    assert str(Agreement("probabilities", 0.0123)) == "probabilities: 1.23% of its spread"
    assert str(Agreement(BOXES, 0.01, 9, 8)) == "8 of 9 sure boxes found again, scores within 0.0100"
    assert str(Agreement(BOXES, 0.0)) == "no box with a score of 0.3 to compare"


def write(file: Path, flatbuffer: bytes) -> Checked:
    return write_checked(file, flatbuffer, reference(CLASSIFIER), lambda found: f"{found.images} images")


def test_both_files_appear(tmp_path):
    flatbuffer = quantized(CLASSIFIER, "float32").flatbuffer
    assert write(tmp_path / "net.tflite", flatbuffer).problems == ()
    assert (tmp_path / "net.tflite").read_bytes() == flatbuffer
    assert (tmp_path / "net.json").read_text() == "4 images"
    assert len(list(tmp_path.iterdir())) == 2


def test_what_is_refused_leaves_nothing_and_what_was_there_before(tmp_path):
    good = quantized(CLASSIFIER, "float32").flatbuffer
    broken = with_last_weights(good, np.zeros_like)
    assert write(tmp_path / "net.tflite", broken).problems
    assert list(tmp_path.iterdir()) == []
    write(tmp_path / "net.tflite", good)
    assert write(tmp_path / "net.tflite", broken).problems
    assert (tmp_path / "net.tflite").read_bytes() == good


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """The system refuses to write more, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_takes_no_more_is_one_clear_error(tmp_path):
    flatbuffer = quantized(CLASSIFIER, "float32").flatbuffer
    with (
        pytest.raises(EffkerasError, match=r"cannot write .*net\.tflite: File too large"),
        no_file_larger_than(len(flatbuffer) // 2),
    ):
        write(tmp_path / "net.tflite", flatbuffer)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("full", [".tflite", ".json"])
def test_a_full_disk_leaves_neither_file(full, tmp_path, monkeypatch):
    real = Path.open

    def open_full(path: Path, mode: str = "r", *rest, **named):
        if path.suffix == full and "w" in mode:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(path, mode, *rest, **named)

    flatbuffer = quantized(CLASSIFIER, "float32").flatbuffer
    monkeypatch.setattr(Path, "open", open_full)
    with pytest.raises(EffkerasError, match=r"cannot write .*: No space left on device"):
        write(tmp_path / "net.tflite", flatbuffer)
    assert list(tmp_path.iterdir()) == []


def test_drawn_images_are_always_the_same_and_differ():
    shown = drawn_images((48, 64))
    assert (shown.shape, shown.dtype) == ((4, 48, 64, 3), np.float32)
    np.testing.assert_array_equal(shown, drawn_images((48, 64)))
    np.testing.assert_array_equal(shown, np.clip(np.rint(shown), 0, 255))
    assert all(np.abs(shown[0] - other).mean() > 5 for other in shown[1:])


def test_images_of_data_are_those_that_can_be_read(digits, tmp_path):
    root = shutil.copytree(digits, tmp_path / "digits")
    spec = tiny_spec(DETECTOR).input
    data = open_data(root, "test", skip_bad=False)
    wanted = images_of(spec, data)
    representative(data, 1)[0].path.write_bytes(b"no image")
    np.testing.assert_array_equal(images_of(spec, data)[:3], wanted[1:])
    for record in data.records:
        record.path.write_bytes(b"no image")
    with pytest.raises(EffkerasError, match="no image of the split 'test'"):
        images_of(spec, data)


def test_images_of_a_class_folder_are_of_different_classes(tmp_path):
    """The class folders come one after the other; each image here is of its class's grey."""
    for index, label in enumerate("abc"):
        shown = [np.full((8, 8, 3), 60 * index, np.uint8)] * 5
        write_folder(tmp_path, "test", "abc", [(label, one) for one in shown])
    found = images_of(tiny_spec(CLASSIFIER).input, open_data(tmp_path, "test"))
    assert {0, 60, 120} <= {int(image.max()) for image in found}


def test_what_an_untrained_network_whispers_is_no_disagreement():
    whispered = np.array([1e-23, 3e-23, 2e-23], np.float32)
    (one,) = agreements({"box_deltas": whispered}, {"box_deltas": -whispered}, None)
    assert one.error < 1e-10
    (other,) = agreements({"box_deltas": whispered * 1e20}, {"box_deltas": -whispered * 1e20}, None)
    assert other.error > 1


def test_an_artifact_never_has_the_record_of_another(tmp_path, monkeypatch):
    """A kill between the two renames left the new artifact beside the old .json."""
    file = tmp_path / "net.tflite"
    made = quantized(CLASSIFIER, "float32").flatbuffer
    write_checked(file, made, reference(CLASSIFIER), lambda checked: "old")
    whole = replacing.put_file

    def killed_after_the_first(fresh, path):
        whole(fresh, path)
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "put_file", killed_after_the_first)
    with pytest.raises(KeyboardInterrupt):
        write_checked(file, made, reference(CLASSIFIER), lambda checked: "new")
    assert [one.name for one in tmp_path.iterdir()] == ["net.tflite"]
