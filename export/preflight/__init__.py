"""Pre-flight: predicts which operators of a .tflite an Edge TPU or a GPU runs.

`check_for(flatbuffer, "edgetpu")` checks every operator against a table (`edgetpu.toml`, `gpu.toml`). Each
rule in the tables names its source.
"""

from export.preflight.judgement import check_for
from export.preflight.verdicts import Preflight

__all__ = ["Preflight", "check_for"]
