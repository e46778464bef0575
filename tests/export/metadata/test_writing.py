"""A file with other metadata is opened and run before it gets its name."""

from __future__ import annotations

import numpy as np
import pytest
from support.handmade import Op, flatbuffer
from support.op_cases import image, unary
from support.small_tflite import small_tflite

from effkeras import EffkerasError
from effkeras.litert.flatbuffer import operators, real_constants
from effkeras.litert.metadata.coding import TABLE
from effkeras.litert.rewriting import attach, with_constants
from effkeras.litert.runner import DEFINITION
from export.metadata.attaching import write_checked


def changed() -> bytes:
    """The small file with other weights in its last layer."""
    (dense,) = (op for op in operators(small_tflite()) if op.name == "FULLY_CONNECTED")
    (index,) = found = real_constants(small_tflite(), [dense.inputs[1].index])
    return with_constants(small_tflite(), {index: found[index].codes_of(np.flip(found[index].values))})


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (changed, "it does not compute what it did before"),
        (lambda: attach(small_tflite(), DEFINITION, b"a = ["), "the definition in the .tflite is damaged"),
        (lambda: attach(small_tflite(), TABLE, b"nothing"), "the TFLite Metadata is damaged"),
        (lambda: small_tflite()[:5000], "damaged"),
    ],
)
def test_what_a_look_finds_is_not_written_and_the_old_file_stays(made, message, tmp_path):
    out = tmp_path / "net.tflite"
    out.write_bytes(b"older")
    with pytest.raises(EffkerasError, match=rf"net\.tflite is not written.*{message}"):
        write_checked(out, made(), small_tflite())
    assert [(path, path.read_bytes()) for path in tmp_path.iterdir()] == [(out, b"older")]


@pytest.mark.parametrize("operator", ["edgetpu-custom-op", "Somebodys"])
def test_what_cannot_run_here_is_read_back(operator, tmp_path):
    content = flatbuffer(Op(operator, [image()], [image()]))
    write_checked(tmp_path / "net.tflite", attach(content, "note", b"new"), content)
    assert operators((tmp_path / "net.tflite").read_bytes())[0].name == operator


def test_a_compiled_file_need_not_run_although_its_original_does(tmp_path):
    compiled = flatbuffer(Op("edgetpu-custom-op", [image()], [image()]))
    write_checked(tmp_path / "net.tflite", compiled, flatbuffer(unary("RELU")))
    assert (tmp_path / "net.tflite").read_bytes() == compiled
