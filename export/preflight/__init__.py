"""Pre-flight: predicts which operators of a .tflite an Edge TPU or a GPU runs.

`check_for(flatbuffer, "edgetpu")` judges every operator by a table (`edgetpu.toml`, `gpu.toml`) whose rules
name their source.
"""

from export.preflight.judgement import check_for
from export.preflight.verdicts import Preflight

__all__ = ["Preflight", "check_for"]
