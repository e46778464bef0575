"""`effkeras import` and `effkeras weights`: foreign and published weights become models of ours."""

from __future__ import annotations

import shutil
import tarfile
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from support.checkpoint_writer import write_checkpoint
from support.eager import outputs_of_model
from support.goldens import read_golden
from support.torch_weights import image, read_torch_golden

import effkeras
from effkeras import cli
from effkeras.layers.normalize import spec_of
from effkeras.support.errors import EffkerasError
from effkeras.weights.cards import cached_file, is_installed, locate
from effkeras.weights.tf_checkpoints import EMA_SUFFIX

TIMM = "mobilenetv3_small_100"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EFFKERAS_CACHE", str(tmp_path / "cache"))


def run(*words: object) -> int:
    return cli.main([str(word) for word in words])


def timm_file(folder: Path, name: str) -> Path:
    save_file(read_torch_golden(TIMM).weights(), folder / name)
    return folder / name


def publish(model: str, weights: str, golden: str) -> None:
    """Puts an archive into the cache like the published ones: averages, and a path of another machine."""
    spec = effkeras.spec(model)
    file = cached_file(spec, weights)
    values = {name + EMA_SUFFIX: value for name, value in read_golden(golden).weights().items()}
    prefix = write_checkpoint(file.parent / model, values)
    (prefix.parent / "checkpoint").write_text('model_checkpoint_path: "/tmp/train/model"\n')
    with tarfile.open(file, "w:gz") as tar:
        tar.add(prefix.parent, model)
    shutil.rmtree(prefix.parent)


def test_timms_file_becomes_a_keras_file(tmp_path, capsys):
    source = timm_file(tmp_path, f"{TIMM}.safetensors")
    out = tmp_path / "out.keras"
    assert run("import", source, "mobilenet-v3-small", "--out", out) == 0
    shown = capsys.readouterr().out
    assert "timm or effdet safetensors" in shown
    assert "left at random  nothing" in shown
    model = effkeras.load(out)
    assert spec_of(model).network.padding == "symmetric"
    wanted = read_torch_golden(TIMM).outputs["logits"][0]
    assert model.get_layer("logits").kernel.shape[1] == len(wanted)


@pytest.mark.slow
def test_published_weights_by_name(tmp_path, capsys):
    publish("efficientnet-lite0", "imagenet", "efficientnet-lite0_96.npz")
    golden = read_golden("efficientnet-lite0_96.npz")
    model = effkeras.build("efficientnet-lite0", weights="imagenet", input_shape=(96, 96), activation=None)
    found = outputs_of_model(model, golden.arrays["image"].astype("float32"))
    assert np.abs(found - golden.arrays["logits"]).max() < 1e-3 * found.std()
    assert run("import", "imagenet", "efficientnet-lite0", "--out", tmp_path / "o.keras", "--classes", 5) == 0
    shown = capsys.readouterr().out
    assert "Apache-2.0" in shown
    assert "left at random  efficientnet-lite0/head/dense/kernel" in shown
    assert effkeras.load(tmp_path / "o.keras").output_shape == (None, 5)


@pytest.mark.slow
def test_weights_bring_their_own_preprocessing():
    publish("efficientnet-b0", "advprop", "efficientnet-b0_96.npz")
    publish("efficientnet-b0", "noisy-student", "efficientnet-b0_96.npz")
    pixels = image(32)
    names = ("advprop", "noisy-student")
    models = {name: effkeras.build("b0", weights=name, input_shape=(32, 32)) for name in names}
    assert spec_of(models["advprop"]).input.mean == (127.5,) * 3
    assert spec_of(models["noisy-student"]).input.mean == effkeras.spec("b0").input.mean
    normalised = {name: model.get_layer("normalize")(pixels) for name, model in models.items()}
    np.testing.assert_allclose(normalised["advprop"], pixels / 127.5 - 1, atol=1e-5)
    assert np.abs(normalised["noisy-student"] - normalised["advprop"]).max() > 0.1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{nameless}", "mobilenet-v3-small"], "give padding: same (tf_ models) or symmetric"),
        (["{pickle}", "mobilenet-v3-small"], "is not a readable PyTorch file"),
        (["{gone}", "mobilenet-v3-small"], "there are no weights"),
        (["coco", "d0"], "effkeras weights efficientdet-d0 coco --download"),
        (["{nameless}", "mobilenet-v2", "--padding", "same"], "blocks (blocks.N.M) where mobilenet-v2"),
        (["{nameless}", "mobilenet-v3-small", "--padding", "valid"], "invalid choice"),
        (["{nameless}", "nothing-of-ours"], "there is no model"),
        (["{empty}", "b0"], "holds no weights that can be read"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(words, message, tmp_path, capsys):
    paths = {
        "{nameless}": timm_file(tmp_path, "mine.safetensors"),
        "{pickle}": tmp_path / "w.pth",
        "{gone}": tmp_path / "gone.h5",
        "{empty}": tmp_path / "empty.bin2",
    }
    paths["{pickle}"].write_bytes(b"\x80\x02ctorch")
    paths["{empty}"].touch()
    assert run("import", *(paths.get(word, word) for word in words), "--out", tmp_path / "o.keras") == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "o.keras").exists()


def test_the_file_to_write_must_be_a_keras_file(tmp_path, capsys):
    assert run("import", "coco", "d0", "--out", tmp_path / "d0.h5") == 2
    assert "--out must end with .keras" in capsys.readouterr().err


def test_weights_are_listed_with_address_and_licence(capsys):
    assert run("weights", "d0") == 0
    shown = capsys.readouterr().out
    assert "efficientdet-d0 coco" in shown
    assert "efficientdet-d0 advprop" in shown
    assert "Apache-2.0" in shown
    assert "(not on this machine)" in " ".join(shown.split())
    assert run("weights", "efficientnet-digits") == 0
    assert "digits.keras" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["squeezenet-1.1"], "has no published weights"),
        (["d0", "cocoa"], "has no published weights 'cocoa'"),
        (["d0", "--download"], "say which weights to download; efficientdet-d0 knows: coco, advprop"),
        (["d0", "cocoa", "--download"], "did you mean 'coco'"),
    ],
)
def test_weights_that_nobody_knows(words, message, capsys):
    assert run("weights", *words) == 2
    assert message in capsys.readouterr().err


def test_weights_are_found_in_an_installed_package(monkeypatch, tmp_path):
    monkeypatch.setenv("EFFKERAS_CACHE", str(tmp_path))
    if not is_installed(effkeras.spec("efficientnet-lite0").weights["imagenet"]):
        pytest.skip("the package with Lite0's weights is not installed")
    found = locate(effkeras.spec("efficientdet-lite0"), "imagenet")  # of its backbone
    assert found.path.name == "efficientnet-lite0-57934424.pth"
    model = effkeras.build("efficientnet-lite0", input_shape=(64, 64), weights="imagenet")
    assert float(model.get_layer("stem_conv").kernel[0, 0, 0, 0]) == pytest.approx(-1.1103361)


def test_weights_in_no_package_say_how_to_get_them(monkeypatch, tmp_path):
    monkeypatch.setenv("EFFKERAS_CACHE", str(tmp_path))
    monkeypatch.setattr("importlib.metadata.distribution", _not_installed)
    with pytest.raises(EffkerasError, match=r"run `pip install efficientnet-lite1-.*==0\.1\.0`, or"):
        locate(effkeras.spec("efficientnet-lite1"), "imagenet")
    with pytest.raises(EffkerasError, match=r"run `effkeras weights .* --download`, or put"):
        locate(effkeras.spec("efficientnet-b0"), "imagenet")


def _not_installed(name: str):
    raise PackageNotFoundError(name)
