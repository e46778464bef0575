"""What `quantize` adds to a quantized network."""

from __future__ import annotations

from support.small_tflite import small_tflite

from effkeras.inference.threshold import ENTRY, Threshold
from effkeras.litert.rewriting import attached
from quantize.attempts import AsQuantized


def test_an_artifact_carries_the_models_threshold():
    network, threshold = small_tflite(), Threshold(0.42, 0.9, "val", 87)
    assert AsQuantized()(network) is network
    entry = attached(AsQuantized(threshold)(network), ENTRY)
    assert entry is not None
    assert Threshold.from_bytes(entry) == threshold
