"""Reads and writes videos frame by frame through PyAV (FFmpeg), an optional dependency."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from effkeras.support.errors import EffkerasError
from effkeras.support.files import whole_file

SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".wmv", ".3gp", ".ogv"}
)
# FFmpeg goes by the content: a file called .mp4 may be a playlist that leads to other files and addresses.
_FILES_ALONE = {
    "protocol_whitelist": "file",
    "format_whitelist": "mov,mp4,matroska,webm,avi,mpeg,mpegvideo,mpegts,asf,ogg,m4v,3gp",
}
_MOST_PIXELS = 2**27  # of a frame; 16K has 133 million
_WAY_OUT = "replace the file"
_CLOCK = re.compile(r"(\d{1,9}):(\d{1,9}):(\d{1,9}(?:\.\d*)?)", re.ASCII)
_MISSED = 1  # a container may state this many frames too many


@dataclass(frozen=True, eq=False, slots=True)
class Frame:
    """One frame of a video.

    `number` counts from 0 in display order, `time` is in seconds as stated in the file, `pixels` is uint8
    (height, width, 3), RGB, rotated as the file states.
    """

    number: int
    time: float
    pixels: np.ndarray


@dataclass(frozen=True, eq=False, slots=True)
class Video:
    """An open video; iteration decodes it once, from the start."""

    path: Path
    container: Any
    stream: Any

    @property
    def rate(self) -> Fraction:
        """Mean number of frames per second."""
        return self.stream.average_rate or self.stream.guessed_rate or Fraction(25)

    @property
    def frames(self) -> int | None:
        """The number of frames that the file states; None if it states none."""
        promised = self.stream.frames or round(_duration(self.stream) * self.rate)
        return promised or None

    def __iter__(self) -> Iterator[Frame]:
        """Raises EffkerasError at the frame where the file is damaged, or at the end if it is truncated."""
        number, end = 0, 0.0
        with _explained(self.path, lambda: f"damaged at frame {number}; {_WAY_OUT}"):
            for decoded in self.container.decode(self.stream):
                _check_size(self.path, decoded)
                time = float(number / self.rate) if decoded.time is None else decoded.time
                yield Frame(number, time, _upright(decoded))
                lasts = (decoded.duration or 0) * (decoded.time_base or 0)
                number, end = number + 1, time + float(max(lasts, 1 / self.rate))
        _refuse_short(self, number, end)


@contextlib.contextmanager
def open_video(path: Path) -> Iterator[Video]:
    """Opens a video file.

    Raises EffkerasError if PyAV is not installed, or the file is missing, not a video or damaged.
    """
    av = _pyav()
    if not path.is_file():
        raise EffkerasError(f"there is no video {path}")
    with _explained(path, lambda: f"no video, or damaged at its start; {_WAY_OUT}"):
        # Titles in other encodings than UTF-8 are common, and of no use here.
        container = av.open(str(path), options=_FILES_ALONE, metadata_errors="replace")
    with container:
        found = container.streams.video
        if not found or found[0].codec_context is None:  # the header names no known codec
            raise EffkerasError(f"{path}: no video: sound or text alone, or damaged at its start; {_WAY_OUT}")
        stream = found[0]
        _check_size(path, stream)
        stream.thread_type = "AUTO"
        yield Video(path, container, stream)


@contextlib.contextmanager
def write_video(path: Path, like: Video) -> Iterator[Callable[[float, np.ndarray], None]]:
    """Writes an MP4 (H.264); yields a function that adds a frame, given its time and its pixels.

    The file appears only when complete. Frames keep their times, in the time base of `like`. Pixels are uint8
    (height, width, 3). All frames get the size of the first, made even as the format requires. No sound.
    """
    av = _pyav()
    with (
        whole_file(path) as temporary,
        _explained(path, lambda: "the video cannot be written"),
        av.open(str(temporary), "w", format="mp4") as container,
    ):
        encoder = _Encoder(container, like)
        yield encoder.add
        encoder.close()


class _Encoder:
    """Opens its stream at the first frame and uses that frame's size."""

    def __init__(self, container: Any, like: Video):
        self._container = container
        self._like = like
        self._stream: Any = None
        self._next = -math.inf

    def add(self, time: float, pixels: np.ndarray) -> None:
        if self._stream is None:
            self._open(pixels)
        frame = _pyav().VideoFrame.from_ndarray(np.ascontiguousarray(_even(pixels)), format="rgb24")
        frame = frame.reformat(self._stream.width, self._stream.height, "yuv420p")
        frame.time_base = self._clock
        frame.pts = int(max(round(time / self._clock), self._next))  # two frames may state the same time
        self._next = frame.pts + 1
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        if self._stream is not None:
            self._container.mux(self._stream.encode(None))

    @property
    def _clock(self) -> Fraction:
        return self._like.stream.time_base or 1 / self._like.rate

    def _open(self, pixels: np.ndarray) -> None:
        height, width = _even(pixels).shape[:2]
        self._stream = self._container.add_stream("h264", rate=self._like.rate)
        self._stream.width, self._stream.height = width, height
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.time_base = self._clock


def is_video(path: Path) -> bool:
    """Whether a file has the suffix of a video."""
    return path.suffix.lower() in SUFFIXES


def _pyav() -> ModuleType:
    try:
        import av
    except ImportError as error:
        raise EffkerasError("videos need PyAV; install it with: pip install 'effkeras[video]'") from error
    return av


@contextlib.contextmanager
def _explained(path: Path, what: Callable[[], str]) -> Iterator[None]:
    """Turns FFmpeg's errors into one-line errors."""
    try:
        yield
    except _pyav().error.FFmpegError as error:
        reason = error.strerror or type(error).__name__
        raise EffkerasError(f"{path}: {what()} ({reason})") from error


def _check_size(path: Path, image: Any) -> None:
    if image.width * image.height > _MOST_PIXELS:
        raise EffkerasError(
            f"{path}: frames of {image.width} x {image.height} pixels are too large; scale it"
        )


def _refuse_short(video: Video, frames: int, end: float) -> None:
    """Raises EffkerasError for a truncated video.

    A video that was cut without re-encoding may lack frames, but then states a shorter duration.
    """
    promised = _duration(video.stream)
    start = float((video.stream.start_time or 0) * video.stream.time_base)
    missing = round((start + promised - end) * video.rate) if promised else 0
    if frames == 0 or (missing > _MISSED and frames < (video.stream.frames or math.inf)):
        whole = f"{end:.2f} of {promised:.2f} seconds" if promised else "nothing"
        raise EffkerasError(f"{video.path}: the video is cut short ({whole} can be read); {_WAY_OUT}")


def _duration(stream: Any) -> float:
    """The duration in seconds that a stream states; 0 if it states none, or in an unknown format."""
    if stream.duration is not None:
        return float(stream.duration * stream.time_base)
    clock = _CLOCK.fullmatch(stream.metadata.get("DURATION", ""))  # Matroska
    return 3600 * int(clock[1]) + 60 * int(clock[2]) + float(clock[3]) if clock else 0.0


def _upright(decoded: Any) -> np.ndarray:
    quarters = round(decoded.rotation / 90) % 4  # counter-clockwise, like numpy
    return np.ascontiguousarray(np.rot90(decoded.to_ndarray(format="rgb24"), quarters))


def _even(pixels: np.ndarray) -> np.ndarray:
    """Makes height and width even by repeating the last line: colour has half the resolution."""
    height, width = pixels.shape[:2]
    return np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
