"""ONNX files give what the Keras model gives, or are not written."""

from __future__ import annotations

import importlib.util
import json
import sys

import pytest
from support.tiny import tiny_classifier, tiny_detector

import effkeras
from effkeras.cli import main
from effkeras.definitions.definition import spec_from_table
from effkeras.support.tables import parse_toml
from effkeras.weights.keras_files import save
from export import to_onnx

HERE = all(map(importlib.util.find_spec, ("onnx", "onnxruntime", "tf2onnx")))
needs_onnx = pytest.mark.skipif(not HERE, reason="ONNX's libraries are not here: pip install '.[onnx]'")


@needs_onnx
@pytest.mark.slow
@pytest.mark.parametrize("spec", [tiny_classifier(), tiny_detector()], ids=lambda spec: spec.name)
@pytest.mark.filterwarnings("default")  # of the converter, which supports old TensorFlow and NumPy too
def test_a_model_becomes_an_equal_file(spec, tmp_path, monkeypatch, capsys):
    import onnx

    model, out = tmp_path / "a.keras", tmp_path / "a.onnx"
    save(effkeras.build(spec), model)
    assert main(["export", "onnx", str(model), "--out", str(out)]) == 0
    assert "a.onnx: written" in capsys.readouterr().out
    proto = onnx.load(out)
    held = {entry.key: entry.value for entry in proto.metadata_props}
    assert spec_from_table(parse_toml(held[to_onnx.DEFINITION].encode(), "it"), "it") == spec
    assert json.loads(held[to_onnx.LABELS]) == list(spec.labels)
    assert [one.name for one in proto.graph.input] == ["image"]
    names = {one.name for one in proto.graph.output}
    assert names == ({"class_logits", "box_deltas"} if spec.is_detector else {"probabilities"})

    out.unlink()
    outputs = to_onnx._run_by_onnxruntime
    monkeypatch.setattr(
        to_onnx, "_run_by_onnxruntime", lambda *words: {k: 1.1 * v for k, v in outputs(*words).items()}
    )
    assert main(["export", "onnx", str(model), "--out", str(out)]) == 1
    assert "differs in" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    ("out", "message"),
    [("a.pb", "a.pb: the file name must end in .onnx"), ("a.onnx", 'pip install "effkeras[onnx]"')],
)
def test_what_is_missing_is_one_line(out, message, tmp_path, monkeypatch, capsys):
    for name in ("onnx", "tf2onnx"):
        monkeypatch.setitem(sys.modules, name, None)
    assert main(["export", "onnx", "efficientnet-lite0", "--out", str(tmp_path / out)]) == 2
    assert message in capsys.readouterr().err
