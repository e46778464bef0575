"""Pre-flight: what an Edge TPU or a GPU will make of a .tflite, said before it meets one.

`check_for(flatbuffer, "edgetpu")` judges every operator by a table (`edgetpu.toml`, `gpu.toml`) whose rules
name their source.
"""

from export.preflight.judgement import check_for
from export.preflight.verdicts import Preflight

__all__ = ["Preflight", "check_for"]
