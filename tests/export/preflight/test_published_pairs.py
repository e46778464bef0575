"""Coral's published pairs: what edgetpu_compiler left to the CPU is what the pre-flight says it leaves."""

from __future__ import annotations

from pathlib import Path

import pytest

from effkeras.litert.nodes import Node, nodes
from export.preflight import check_for
from export.preflight.__main__ import main

FOLDER = Path(__file__).parents[4] / "shared" / "real" / "coral"
PAIRS = (
    "deeplabv3_mnv2_dm05_pascal_quant",
    "keras_lstm_mnist_ptq",
    "mobilenet_v1_0.25_128_quant",
    "movenet_single_pose_lightning_ptq",
    "split_concat",
)
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="Coral's published files are not here")


def outputs_of(node: Node) -> tuple[str, ...]:
    return (node.name, *(tensor.info.name for tensor in node.outputs))


@pytest.mark.parametrize("name", PAIRS)
def test_it_agrees_operator_for_operator(name):
    content = (FOLDER / f"{name}.tflite").read_bytes()
    left = {outputs_of(node) for node in nodes((FOLDER / f"{name}_edgetpu.tflite").read_bytes())}
    on_cpu = [node.op.index for node in nodes(content) if outputs_of(node) in left]
    assert [one.index for one in check_for(content, "edgetpu").verdicts if not one.on_device] == on_cpu


def test_a_partition_ends_behind_its_first_operator():
    found = check_for((FOLDER / "movenet_single_pose_lightning_ptq.tflite").read_bytes(), "edgetpu")
    assert found.end.index > 2
    assert found.end.op == "ARG_MAX"


def test_a_compiled_file_is_recognised(capsys):
    assert main([str(FOLDER / "deeplabv3_mnv2_dm05_pascal_quant_edgetpu.tflite")]) == 1
    text = capsys.readouterr().out
    assert "compiled" in text
    assert "8 operators that it left there" in text
    assert "what helps" not in text
    assert main([str(FOLDER / "split_concat_edgetpu.tflite")]) == 0
