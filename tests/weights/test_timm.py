"""timm's and effdet's weights load by their own names and compute what timm and effdet compute."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from support.eager import outputs_of_model
from support.proofs import TIMM, proves
from support.torch_weights import TorchGolden, image, read_torch_golden
from support.torch_writer import write_pth

import effkeras
from effkeras.graph.counting import layer_channels
from effkeras.support.errors import EffkerasError
from effkeras.weights.formats import Requirements, open_source
from effkeras.weights.loading import load_weights, open_weights
from effkeras.weights.timm import torch_entries

QUICK = {
    "efficientnet_b0": "efficientnet-b0",
}
SLOW = {
    "tf_mobilenetv3_large_100": "mobilenet-v3-large",
    "tf_mixnet_s": "mixnet-s",
    "tf_efficientdet_lite0": "efficientdet-lite0",
}
NIGHTLY = {
    "tf_efficientnet_b0": "efficientnet-b0",
    "tf_efficientnet_lite0": "efficientnet-lite0",
    "tf_efficientnetv2_b0": "efficientnetv2-b0",
    "tf_efficientnetv2_s": "efficientnetv2-s",
    "tf_efficientnet_es": "efficientnet-edgetpu-s",
    "efficientnet_es": "efficientnet-edgetpu-s",
    "mixnet_s": "mixnet-s",
    "mnasnet_100": "mnasnet-b1",
    "semnasnet_100": "mnasnet-a1",
    "mnasnet_small": "mnasnet-small",
    "mobilenetv2_100": "mobilenet-v2",
    "mobilenetv3_small_100": "mobilenet-v3-small",
    "tf_mobilenetv3_small_minimal_100": "mobilenet-v3-small-minimalistic",
    "tf_efficientdet_d0": "efficientdet-d0",
}
LISTED = {
    "tf_efficientnet_b3": "efficientnet-b3",
    "tf_efficientnet_b8": "efficientnet-b8",
    "tf_efficientnet_l2": "efficientnet-l2",
    "tf_efficientnet_lite4": "efficientnet-lite4",
    "tf_efficientnet_em": "efficientnet-edgetpu-m",
    "tf_efficientnet_el": "efficientnet-edgetpu-l",
    "tf_efficientnetv2_b3": "efficientnetv2-b3",
    "tf_efficientnetv2_xl": "efficientnetv2-xl",
    "tf_mixnet_m": "mixnet-m",
    "tf_mixnet_l": "mixnet-l",
    "mobilenetv2_140": "mobilenet-v2-1.4",
    "tf_mobilenetv3_large_minimal_100": "mobilenet-v3-large-minimalistic",
    "tf_efficientdet_d7x": "efficientdet-d7x",
}
HAVE_BIAS = ("_se_", "hidden_conv", "logits", "class", "box", "fpn", "p6_conv", "p7_conv", "p8_conv")


def write(golden: TorchGolden, folder: Path, file: str = "", **config: object) -> Path:
    """The golden's weights as the hub gives them; `config` becomes `config.json`."""
    folder.mkdir(exist_ok=True)
    path = folder / (file or f"{golden.name}.safetensors")
    save_file(golden.weights(), path)
    if config:
        (folder / "config.json").write_text(json.dumps(config))
    return path


def trained(golden: TorchGolden) -> dict[str, object]:
    return {"pretrained_cfg": {"mean": golden.mean, "std": golden.std}}


def close(ours: np.ndarray, theirs: np.ndarray) -> None:
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() < 1e-4 * theirs.std()


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        *(pytest.param(*pair, marks=proves(pair[1], TIMM)) for pair in QUICK.items()),
        *(pytest.param(*pair, marks=[proves(pair[1], TIMM), pytest.mark.slow]) for pair in SLOW.items()),
        *(
            pytest.param(*pair, marks=[proves(pair[1], TIMM), pytest.mark.nightly("zoo")])
            for pair in NIGHTLY.items()
        ),
    ],
)
def test_outputs_equal_theirs(theirs, ours, tmp_path):
    golden = read_torch_golden(theirs)
    path = write(golden, tmp_path, architecture=theirs, **trained(golden))
    model = effkeras.build(ours, input_shape=(golden.size,) * 2, weights=path, activation=None)
    found = outputs_of_model(model, image(golden.size))
    if "logits" in golden.outputs:
        close(found, golden.outputs["logits"])
    else:
        close(np.asarray(found["class_logits"])[:, ::31], golden.outputs["class"])
        close(np.asarray(found["box_deltas"]), golden.outputs["box"])


@pytest.mark.parametrize(("theirs", "ours"), (QUICK | SLOW | NIGHTLY | LISTED).items())
def test_names_are_those_of_their_state_dicts(theirs, ours):
    stored = {name for name in read_torch_golden(theirs).shapes if not name.endswith("num_batches_tracked")}
    spec = effkeras.spec(ours)
    layers = layer_channels(spec)
    names = {
        entry.name
        for (layer, weight), entry in torch_entries(spec, stored).items()
        if layer in layers and (weight != "bias" or any(part in layer for part in HAVE_BIAS))
        if not (weight == "bias" and layer.endswith("_conv") and "_in" in layer and entry.name not in stored)
    }
    assert names == stored


def test_weights_bring_their_padding_epsilon_and_preprocessing(tmp_path):
    config = {"architecture": "efficientnet_b0", "pretrained_cfg": {"mean": [0.5] * 3, "std": [0.25] * 3}}
    path = write(read_torch_golden("efficientnet_b0"), tmp_path, "model.safetensors", **config)
    spec = open_weights(effkeras.spec("efficientnet-b0"), path).spec
    assert spec.network.padding == "symmetric"
    assert spec.network.batch_norm.epsilon == 1e-5
    assert spec.input.mean == (127.5,) * 3
    assert spec.input.std == (63.75,) * 3
    assert open_weights(effkeras.spec("efficientnet-b0"), path.parent).spec == spec  # the folder will do


@pytest.mark.parametrize(
    ("file", "padding"),
    [
        ("tf_efficientnet_b0.ns_jft_in1k.safetensors", "same"),
        ("efficientnet_b0.ra_in1k.safetensors", "symmetric"),
    ],
)
def test_a_files_name_tells_how_the_network_pads(file, padding, tmp_path):
    path = write(read_torch_golden("efficientnet_b0"), tmp_path, file)
    assert open_weights(effkeras.spec("b0"), path).spec.network.padding == padding


def test_without_a_sign_of_the_padding_the_file_is_refused(tmp_path):
    path = write(read_torch_golden("efficientnet_b0"), tmp_path / "downloads", "b0.safetensors")
    with pytest.raises(EffkerasError, match=r"give padding: same \(tf_ models\) or symmetric"):
        open_weights(effkeras.spec("b0"), path)
    assert open_weights(effkeras.spec("b0"), path, padding="symmetric").spec.network.padding == "symmetric"


def test_a_built_model_that_pads_otherwise_is_left_alone(tmp_path):
    golden = read_torch_golden("mobilenetv3_small_100")
    path = write(golden, tmp_path, architecture=golden.name, **trained(golden))
    model = effkeras.build("mobilenet-v3-small", input_shape=(32, 32))
    before = model.get_weights()
    with pytest.raises(EffkerasError, match=r"trained with mean .* build the model with these weights"):
        load_weights(model, path)
    assert all((old == new).all() for old, new in zip(before, model.get_weights(), strict=True))


def test_effdets_own_models_are_refused_with_the_reason(tmp_path):
    path = write(read_torch_golden("efficientdet_d0"), tmp_path)
    with pytest.raises(EffkerasError, match="pads as PyTorch does, also in its pyramid"):
        open_weights(effkeras.spec("d0"), path)


def test_another_models_weights_are_refused(tmp_path):
    path = write(read_torch_golden("tf_efficientnet_lite0"), tmp_path)
    with pytest.raises(
        EffkerasError, match=r"96 missing: .*se\.conv_reduce.*extra|missing: .*se\.conv_reduce"
    ):
        effkeras.build("b0", weights=path, input_shape=(32, 32))
    with pytest.raises(EffkerasError, match=r"16 blocks \(blocks\.N\.M\) where efficientnet-b1 has 23"):
        effkeras.build("b1", weights=path, input_shape=(32, 32))


def test_other_networks_are_refused(tmp_path):
    path = write(read_torch_golden("tf_efficientnet_lite0"), tmp_path)
    with pytest.raises(EffkerasError, match="only networks of MBConv blocks"):
        open_weights(effkeras.spec("squeezenet-1.1"), path)


@pytest.mark.parametrize("keep", [0, 4, 9, 500, 0.5, 0.999])
def test_a_cut_file_is_refused(keep, tmp_path):
    path = write(read_torch_golden("mobilenetv3_small_100"), tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if isinstance(keep, float) else keep])
    with pytest.raises(EffkerasError, match=path.name):
        effkeras.build("mobilenet-v3-small", input_shape=(32, 32), weights=path)


@pytest.mark.parametrize(("file", "head"), [("model.pth", b"\x80\x02"), ("other", b"\x80\x02")])
def test_pickles_of_other_things_are_refused(file, head, tmp_path):
    (tmp_path / file).write_bytes(head + bytes(64))
    with pytest.raises(EffkerasError, match="is not a readable PyTorch file"):
        open_weights(effkeras.spec("b0"), tmp_path / file)


def test_a_file_of_tensors_gives_the_same_weights(tmp_path):
    golden = read_torch_golden("mobilenetv3_small_100")
    files = (write(golden, tmp_path), write_pth(tmp_path / "m.pth", golden.weights()))
    first, second = (
        effkeras.build("mobilenet-v3-small", input_shape=(32, 32), weights=file, padding="symmetric")
        for file in files
    )
    for one, other in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_names_of_efficientnet_pytorch_become_those_of_timm(tmp_path):
    names = [name for name in read_torch_golden("tf_efficientnet_b0").shapes if "tracked" not in name]
    theirs = {_efficientnet_pytorch_name(name): np.zeros(1, np.float32) for name in names}
    source = open_source(write_pth(tmp_path / "b0.pth", theirs), effkeras.spec("b0"))
    assert source.kind == "EfficientNet-PyTorch"
    assert source.unused_names(set()) == sorted(_numbered(name) for name in names)
    assert source.requirements == Requirements(padding="same", epsilon=1e-3)


def _numbered(name: str) -> str:
    """timm's name with blocks numbered through all stages."""
    first, *rest = name.split(".")
    if first != "blocks":
        return name
    return ".".join(["blocks", str(sum(_B0_DEPTHS[: int(rest[0])]) + int(rest[1])), "0", *rest[2:]])


_ENDS = {
    "conv_stem": "_conv_stem",
    "bn1": "_bn0",
    "conv_head": "_conv_head",
    "bn2": "_bn1",
    "classifier": "_fc",
}
_FIRST_BLOCK = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}
_OTHER_BLOCKS = {
    "conv_pw": "_expand_conv",
    "bn1": "_bn0",
    "conv_dw": "_depthwise_conv",
    "bn2": "_bn1",
    "conv_pwl": "_project_conv",
    "bn3": "_bn2",
}
_B0_DEPTHS = (1, 2, 2, 3, 3, 4, 1)


def _efficientnet_pytorch_name(name: str) -> str:
    first, *rest = name.split(".")
    if first != "blocks":
        return ".".join([_ENDS[first], *rest])
    stage, place, layer, *leaf = rest
    number = sum(_B0_DEPTHS[: int(stage)]) + int(place)
    if layer == "se":
        layer, leaf = {"conv_reduce": "_se_reduce", "conv_expand": "_se_expand"}[leaf[0]], leaf[1:]
    else:
        layer = (_FIRST_BLOCK if number == 0 else _OTHER_BLOCKS)[layer]
    return ".".join(["_blocks", str(number), layer, *leaf])


@pytest.mark.parametrize("text", ["{", "[1]", "\udcff"])
def test_a_broken_config_is_refused(text, tmp_path):
    path = write(read_torch_golden("mobilenetv3_small_100"), tmp_path)
    (tmp_path / "config.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(EffkerasError, match=r"config\.json"):
        open_weights(effkeras.spec("mobilenet-v3-small"), path)


@pytest.mark.parametrize(
    "content",
    [
        '{"mean": ["x", 0, 0], "std": [1, 1, 1]}',
        '{"mean": [[], 0, 0], "std": [1, 1, 1]}',
        '{"mean": [1e999, 0, 0], "std": [1, 1, 1]}',
        "[" * 100_000,
        " " * (2**20 + 1),
    ],
)
def test_a_broken_configuration_is_one_line(content, tmp_path):
    from effkeras.weights.timm import _config, _requirements

    (tmp_path / "config.json").write_text(content)
    with pytest.raises(EffkerasError) as caught:
        _requirements(_config(tmp_path / "config.json"), "same")
    assert "config.json" in str(caught.value)
    assert "\n" not in str(caught.value)
