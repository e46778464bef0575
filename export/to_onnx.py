"""`effkeras export onnx MODEL`: the float model as an ONNX file, checked with ONNX Runtime.

tf2onnx converts TensorFlow's graph of the model. The file takes what the Keras model takes, RGB pixels 0..255
as float32 (1, H, W, 3), and gives its raw outputs, without NMS. The definition and the labels are in its
metadata.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from effkeras.building.sources import file_stem, run_folder
from effkeras.support import results
from effkeras.support.backend import need_tensorflow
from effkeras.support.console import facts, quiet, result, run_command, say, warn
from effkeras.support.errors import EffkerasError, first_line
from effkeras.support.files import check_can_make, whole_file
from effkeras.support.options import MODEL_HELP, Verb, add_data, add_json, add_split, add_weights, parser

if TYPE_CHECKING:
    import keras
    import numpy as np

    from effkeras.data.records import LabelledData
    from effkeras.definitions.definition import ModelSpec
    from quantize.comparison import Agreement

VERB = Verb("export onnx", "make an ONNX file, checked with ONNX Runtime")
OPSET = 18
INPUT = "image"
FAILED = 1
# The root mean square difference of an output from the Keras model's, as a share of its standard deviation:
# both compute in float32, in other orders.
LARGEST_DIFFERENCE = 1e-3
DEFINITION, LABELS = "effkeras.definition", "labels"

Outputs = Mapping[str, "np.ndarray"]


@dataclass(frozen=True, eq=False, slots=True)
class OnnxReport:
    """The file, its size in bytes, its outputs by name with their shapes, and how far they differ."""

    spec: ModelSpec
    file: Path
    size: int
    outputs: Mapping[str, tuple[int, ...]]
    images: int
    agreements: tuple[Agreement, ...]

    @property
    def is_equal(self) -> bool:
        """Whether all outputs are those of the Keras model, apart from rounding."""
        return all(one.error <= LARGEST_DIFFERENCE for one in self.agreements)

    def to_row(self) -> results.Row:
        """The report as a plain record of kind "onnx"."""
        return {
            "kind": "onnx",
            "model": self.spec.name,
            "input_size": list(self.spec.input.size),
            "artifact": self.file.name,
            "bytes": self.size,
            "images": self.images,
            "error": max(one.error for one in self.agreements),
            "passed": self.is_equal,
        }


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; exit code 1 when the file's outputs differ from the model's."""
    return run_command(lambda: _run(argv))


def export_onnx(
    source: str | Path,
    out: Path | None = None,
    *,
    weights: str | None = None,
    data: LabelledData | None = None,
) -> OnnxReport:
    """Writes a model as an ONNX file, unless its outputs differ from the model's.

    Args:
        source: a run folder, a .keras file, a zoo name or a TOML file.
        out: the file; by default NAME.onnx in the run's artifacts, or in this folder.
        weights: by name or file, for a zoo name or a TOML file.
        data: images to compare with; drawn ones without them.

    Raises:
        EffkerasError: the libraries are missing, the model or the images are, or it does not convert.
    """
    out = out or _default_out(str(source))
    if out.suffix != ".onnx":
        raise EffkerasError(f"--out {out}: the file name must end in .onnx")
    check_can_make(out.parent)
    _check_libraries()

    from effkeras.building.sources import open_model
    from effkeras.layers.normalize import spec_of
    from quantize.comparison import agreements, images_of

    model = open_model(str(source), weights)
    spec = spec_of(model)
    images = images_of(spec.input, data)
    content = _converted(model, spec)
    got = _run_by_onnxruntime(content, images)
    wanted = _run_by_keras(model, spec, images)
    found = tuple(agreements(wanted, got, None))
    shapes = {name: values.shape[1:] for name, values in got.items()}
    report = OnnxReport(spec, out, len(content), shapes, len(images), found)
    if report.is_equal:
        with whole_file(out) as aside:
            aside.write_bytes(content)
    return report


def _check_libraries() -> None:
    try:
        with quiet():
            import onnx  # noqa: F401
            import onnxruntime  # noqa: F401
            import tf2onnx  # noqa: F401
    except ImportError as error:
        raise EffkerasError(f'{first_line(error)}; pip install "effkeras[onnx]"') from error


def _converted(model: keras.Model, spec: ModelSpec) -> bytes:
    """The file's content: one image, outputs with their names in Keras."""
    with quiet():
        import onnx
        import tf2onnx

        call, names = _traced(model)
        try:
            proto, _ = tf2onnx.convert.from_function(call, call.input_signature, opset=OPSET)
        except Exception as error:  # it raises whatever it meets
            raise EffkerasError(f"tf2onnx cannot convert {spec.name}: {first_line(error)}") from error
    _rename(proto.graph, dict(zip((one.name for one in proto.graph.output), names, strict=True)))
    _rename(proto.graph, {proto.graph.input[0].name: INPUT})
    for key, value in ((DEFINITION, spec.to_toml()), (LABELS, json.dumps(spec.labels))):
        entry = proto.metadata_props.add()
        entry.key, entry.value = key, value
    onnx.checker.check_model(proto)
    return proto.SerializeToString()  # type: ignore[no-any-return]


def _traced(model: keras.Model) -> tuple[Any, list[str]]:
    """The model as a function of one image, and the names of its outputs in their order."""
    import tensorflow as tf

    from effkeras.definitions.networks import AUXILIARY

    example = model.output if isinstance(model.output, dict) else {model.output_names[0]: model.output}
    names = [name for name in example if name != AUXILIARY]

    def run(image: Any) -> list[Any]:
        outputs = model(image, training=False)
        return [outputs[name] for name in names] if isinstance(outputs, dict) else [outputs]

    entry = tf.TensorSpec((1, *model.inputs[0].shape[1:]), tf.float32, name=INPUT)
    return tf.function(run, input_signature=[entry], autograph=False), names


def _rename(graph: Any, new: Mapping[str, str]) -> None:
    """Renames values of an ONNX graph."""
    for value in (*graph.input, *graph.output):
        value.name = new.get(value.name, value.name)
    for node in graph.node:
        node.input[:] = [new.get(name, name) for name in node.input]
        node.output[:] = [new.get(name, name) for name in node.output]


def _run_by_onnxruntime(content: bytes, images: np.ndarray) -> dict[str, np.ndarray]:
    import numpy as np
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_outputs()]
    rows = [session.run(names, {INPUT: image[None]}) for image in images]
    return {name: np.concatenate([row[place] for row in rows]) for place, name in enumerate(names)}


def _run_by_keras(model: keras.Model, spec: ModelSpec, images: np.ndarray) -> dict[str, np.ndarray]:
    import numpy as np

    from effkeras.inference.predictor import KerasPredictor

    predictor = KerasPredictor(model, spec)
    rows = [predictor.once(image[None]) for image in images]
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


def _default_out(source: str) -> Path:
    run = run_folder(source)
    name = f"{run.name if run else file_stem(source)}.onnx"
    return run / "artifacts" / name if run else Path(name)


def _run(argv: Sequence[str] | None) -> int:
    chosen = _parser().parse_args(argv)
    need_tensorflow("an ONNX file")
    report = export_onnx(chosen.model, chosen.out, weights=chosen.weights, data=_data(chosen))
    run = run_folder(chosen.model)
    if run is not None:
        results.append(run / "results.jsonl", [results.stamped(report.to_row())])
    result({**report.to_row(), "file": str(report.file)})
    if not report.is_equal:
        warn(f"failed: ONNX Runtime differs in {_differences(report)}; {report.file} is not written")
        return FAILED
    facts(f"{report.spec.name} as ONNX", _lines(report))
    say(f"{report.file}: written")
    return 0


def _data(chosen: argparse.Namespace) -> LabelledData | None:
    if chosen.data is None:
        return None
    from effkeras.data.records import ReadOptions
    from effkeras.data.splits import default_split, read_split
    from effkeras.training.run import kept_options

    given = ReadOptions(skip_bad=chosen.skip_bad, one_based=chosen.one_based)
    split = chosen.split or default_split(chosen.data)
    return read_split(chosen.data, split, kept_options(chosen.model, chosen.data, given))


def _lines(report: OnnxReport) -> list[tuple[str, str]]:
    height, width = report.spec.input.size
    return [
        ("takes", f"{INPUT}: float32 [1, {height}, {width}, 3], RGB pixels 0..255"),
        *((f"-> {name}", f"float32 {[1, *shape]}") for name, shape in report.outputs.items()),
        ("size", f"{report.size:,} bytes"),
        ("checked", f"ONNX Runtime on {report.images} images differs in {_differences(report)}"),
    ]


def _differences(report: OnnxReport) -> str:
    return ", ".join(f"{one.output} by {one.error:.1e} of its spread" for one in report.agreements)


def _parser() -> argparse.ArgumentParser:
    options = parser(VERB.name, "Makes an ONNX file of the float model, and compares it by ONNX Runtime.")
    options.add_argument("model", help=MODEL_HELP)
    add_weights(options)
    add_data(options, required=False)
    add_split(options)
    options.add_argument(
        "--out", type=Path, metavar="F.onnx", help="default: RUN/artifacts/RUN.onnx, or in this folder"
    )
    add_json(options)
    return options


if __name__ == "__main__":
    sys.exit(main())
