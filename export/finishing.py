"""Turns a quantized network into a consumer's artifact, or reports why the consumer cannot run it.

A detector gets non-maximum suppression after its heads. The quantized network does not change: operators on
the float32 heads are added to the flatbuffer.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from effkeras.definitions.definition import ModelSpec, detector_parts
from effkeras.detection.nms import BOXES, CLASSES, COUNT, HEADS, SCORES, Decoder
from effkeras.inference.threshold import ENTRY, Threshold
from effkeras.litert.editor import GraphEditor, Result, Value
from effkeras.litert.rewriting import attach
from effkeras.litert.runner import OUTPUTS, roles_of
from export import metadata
from export.consumers.consumer import Consumer, Target, nms_settings
from export.nms import Heads, Kept, Settings, centered_anchors, postprocess, suppression


@dataclass(frozen=True, slots=True)
class Finish:
    """Finishes the networks of a definition for a target; implements `quantize.attempts.Finishing`.

    `threshold` is the model's, for the metadata; None if none is known.
    """

    spec: ModelSpec
    target: Target
    threshold: Threshold | None = None

    def network(self, flatbuffer: bytes) -> bytes:
        """An equivalent of the quantized network in operators that the consumer runs."""
        return self.target.consumer.rewrite(flatbuffer)

    def __call__(self, network: bytes) -> bytes:
        """The artifact: the network with NMS after the heads, the consumer's output names, and metadata."""
        artifact = with_nms(network, self.spec, self.target)
        if self.threshold is not None:
            artifact = attach(artifact, ENTRY, self.threshold.to_bytes())
        return _with_metadata(artifact, self.spec) if self.target.consumer.metadata else artifact

    @property
    def decoder(self) -> Decoder | None:
        """A decoder that suppresses boxes as the artifact does; None when its graph has no NMS."""
        if self.target.nms == "none":
            return None
        own = Decoder.of(self.spec)
        return replace(own, nms=nms_settings(own.nms, self.target.nms))

    @property
    def takes_mixed(self) -> bool:
        """Whether some layers may stay out of the recipe's format."""
        return self.target.consumer.takes_mixed

    def problems(self, network: bytes) -> tuple[str, ...]:
        """The reasons why the consumer cannot run the network, apart from accuracy; empty if it can."""
        return (*self._of_scores(network), *self.target.consumer.problems(network))

    def _of_scores(self, network: bytes) -> Iterator[str]:
        consumer = self.target.consumer
        if self.spec.is_detector or not consumer.probabilities:
            return
        (name,) = GraphEditor(network).outputs()
        if name != "probabilities":
            yield (
                f"{consumer.name} reads probabilities, and the model gives logits ({name}); "
                "build it with a softmax"
            )


def _with_metadata(artifact: bytes, spec: ModelSpec) -> bytes:
    return metadata.attach(artifact, metadata.of_model(spec, spec.labels, by_role(artifact)))


def with_nms(flatbuffer: bytes, spec: ModelSpec, target: Target) -> bytes:
    """The artifact with the target's NMS after its heads and the consumer's names on its outputs.

    The outputs are float32: boxes (1, M, 4) as ymin, xmin, ymax, xmax in 0..1 of the input; classes, counted
    from 0, and scores, (1, M); and the number of valid rows, (1,). All later rows are 0. Other outputs, such
    as a mask, follow. Without NMS the artifact is returned unchanged.

    Raises EffkerasError when the artifact is corrupt or has no heads.
    """
    if target.nms == "none":
        return flatbuffer
    editor = GraphEditor(flatbuffer)
    others = {name: value for name, value in editor.outputs().items() if name not in HEADS}
    heads = Heads(*(editor.as_float32(editor.output(name), name) for name in HEADS))
    nms = nms_settings(detector_parts(spec).nms, target.nms)
    suppress = postprocess if target.nms == "postprocess" else suppression
    kept = suppress(editor, heads, Settings(centered_anchors(spec), nms))
    held = _tidied(editor, kept, {one.holds: one.tensor for one in target.consumer.outputs})
    editor.set_outputs({one.signature: held[one.holds] for one in target.consumer.outputs} | others)
    return attach(editor.packed(), OUTPUTS, _roles(target.consumer))


def by_role(flatbuffer: bytes) -> bytes:
    """The file with each output named after its content, for code that finds outputs by name."""
    editor, roles = GraphEditor(flatbuffer), roles_of(flatbuffer)
    editor.set_outputs({roles.get(name, name): value for name, value in editor.outputs().items()})
    return editor.packed()


def _roles(consumer: Consumer) -> bytes:
    return json.dumps({one.holds: one.signature for one in consumer.outputs}).encode()


def _tidied(editor: GraphEditor, kept: Kept, names: dict[str, str]) -> dict[str, Value]:
    """The four outputs, with boxes clipped to the input as in the evaluator, and unused rows set to 0.

    pycoral 2.0 reads all rows, and the operators leave uninitialized memory in the unused ones.
    """
    most = kept.scores.shape[1]
    places = editor.constant("nms/places", np.arange(most, dtype=np.float32)[None])
    counts = editor.add("LESS", [places, kept.count], Result("nms/counts", (1, most), "bool"))
    inside = _clipped(editor, kept.boxes)
    column = editor.reshape(counts, "nms/counts_column", (1, most, 1))
    return {
        BOXES: _cleared(editor, column, inside, names[BOXES]),
        CLASSES: _cleared(editor, counts, kept.classes, names[CLASSES]),
        SCORES: _cleared(editor, counts, kept.scores, names[SCORES]),
        COUNT: editor.renamed(kept.count, names[COUNT]),
    }


def _clipped(editor: GraphEditor, boxes: Value) -> Value:
    low, high = (
        editor.constant("nms/low_edge", np.float32(0)),
        editor.constant("nms/high_edge", np.float32(1)),
    )
    above = editor.add("MAXIMUM", [boxes, low], Result("nms/above", boxes.shape))
    return editor.add("MINIMUM", [above, high], Result("nms/inside", boxes.shape))


def _cleared(editor: GraphEditor, counts: Value, values: Value, name: str) -> Value:
    nothing = editor.constant(f"{name}/nothing", np.zeros(1, np.float32))
    return editor.add("SELECT_V2", [counts, values, nothing], Result(name, values.shape))
