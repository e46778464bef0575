"""TFLite Metadata, written from its published schema and read back, without tflite-support.

MediaPipe, ML Kit and Android Studio read from it what goes into a model and what comes out: labels,
normalisation, the meaning of boxes and scores.
"""

from export.metadata.attaching import attach, put_back, read
from export.metadata.builders import of_classifier, of_detector
from export.metadata.notes import (
    Boxes,
    Content,
    Features,
    FileNote,
    Group,
    Image,
    Metadata,
    Normalization,
    ScoreCalibration,
    ScoreThreshold,
    TensorNote,
)

__all__ = [
    "Boxes",
    "Content",
    "Features",
    "FileNote",
    "Group",
    "Image",
    "Metadata",
    "Normalization",
    "ScoreCalibration",
    "ScoreThreshold",
    "TensorNote",
    "attach",
    "of_classifier",
    "of_detector",
    "put_back",
    "read",
]
