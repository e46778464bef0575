"""What the mediapipe package finds with a .tflite. Runs in .venv-mediapipe, with nothing of ours.

Usage: python mediapipe_judge.py classify|detect MODEL.tflite IMAGES.npy ENLARGED

IMAGES.npy holds uint8 images (N, H, W, 3). Each is shown ENLARGED times as large, every pixel a square:
MediaPipe samples the same pixels from it, and says boxes in whole pixels of what it was shown. Prints a line
of JSON per image: [[class name, score], ...], or [[class name, score, [ymin, xmin, ymax, xmax]], ...] in
pixels of the image as it is.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import mediapipe as mp
import numpy as np
from mediapipe.tasks.python import BaseOptions, vision


def main(task: str, model: str, images: str, enlarged: str) -> None:
    """Prints what is found in each image."""
    with open(model, "rb") as file:  # noqa: PTH123 - as its users do
        base = BaseOptions(model_asset_buffer=file.read())
    shown = np.load(images)
    run = {"classify": classify, "detect": detect}[task]
    for found in run(base, shown, int(enlarged)):
        print(json.dumps(found))


def classify(base: BaseOptions, images: np.ndarray, enlarged: int):
    """The five likeliest classes of each image."""
    options = vision.ImageClassifierOptions(base_options=base, max_results=5)
    with vision.ImageClassifier.create_from_options(options) as classifier:
        for image in images:
            result = classifier.classify(as_mediapipe(image, enlarged))
            yield [[one.category_name, one.score] for one in result.classifications[0].categories]


def detect(base: BaseOptions, images: np.ndarray, enlarged: int):
    """The objects in each image."""
    options = vision.ObjectDetectorOptions(base_options=base, score_threshold=0.05)
    with vision.ObjectDetector.create_from_options(options) as detector:
        for image in images:
            result = detector.detect(as_mediapipe(image, enlarged))
            yield [
                [one.categories[0].category_name, one.categories[0].score, box(one.bounding_box, enlarged)]
                for one in result.detections
            ]


def as_mediapipe(image: np.ndarray, enlarged: int) -> mp.Image:
    """An image as MediaPipe takes it."""
    large = image.repeat(enlarged, axis=0).repeat(enlarged, axis=1)
    return mp.Image(image_format=mp.ImageFormat.SRGB, data=np.ascontiguousarray(large))


def box(found: Any, enlarged: int) -> list[float]:
    """Corners in pixels of the image before it was enlarged.

    Places and sizes are cut off to whole pixels: the likeliest values are half a pixel above.
    """
    ymin, xmin, height, width = (
        value + 0.5 for value in (found.origin_y, found.origin_x, found.height, found.width)
    )
    return [corner / enlarged for corner in (ymin, xmin, ymin + height, xmin + width)]


if __name__ == "__main__":
    main(*sys.argv[1:])
