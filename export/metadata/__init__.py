"""TFLite Metadata, written from its published schema and read back, without tflite-support.

MediaPipe, ML Kit and Android Studio read the description of a model's inputs and outputs from it: labels,
normalisation, and the meaning of boxes and scores.
"""

from effkeras.litert.metadata.coding import read
from effkeras.litert.metadata.records import (
    AssociatedFile,
    Boxes,
    Content,
    Features,
    Group,
    Image,
    Metadata,
    Normalization,
    ScoreCalibration,
    ScoreThreshold,
    TensorMetadata,
)
from export.metadata.attaching import attach, restore
from export.metadata.builders import of_classifier, of_detector, of_model

__all__ = [
    "AssociatedFile",
    "Boxes",
    "Content",
    "Features",
    "Group",
    "Image",
    "Metadata",
    "Normalization",
    "ScoreCalibration",
    "ScoreThreshold",
    "TensorMetadata",
    "attach",
    "of_classifier",
    "of_detector",
    "of_model",
    "read",
    "restore",
]
