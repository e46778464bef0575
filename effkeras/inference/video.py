"""Videos, read and written frame by frame through PyAV (FFmpeg), which is optional."""

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
_WAY_OUT = "replace the file"
_CLOCK = re.compile(r"(\d{1,9}):(\d{1,9}):(\d{1,9}(?:\.\d*)?)", re.ASCII)
_MISSED = 1  # frames that a container may promise too many


@dataclass(frozen=True, eq=False, slots=True)
class Frame:
    """One image of a video.

    `number` counts from 0 in the order they are shown, `time` is in seconds as the file states it, `pixels`
    is uint8 (height, width, 3), RGB, turned the way the file says.
    """

    number: int
    time: float
    pixels: np.ndarray


@dataclass(frozen=True, eq=False, slots=True)
class Video:
    """An open video; iterating decodes it once, from its start."""

    path: Path
    container: Any
    stream: Any

    @property
    def rate(self) -> Fraction:
        """Frames per second, on average."""
        return self.stream.average_rate or self.stream.guessed_rate or Fraction(25)

    @property
    def frames(self) -> int | None:
        """How many frames the file promises; None when it does not say."""
        promised = self.stream.frames or round(_duration(self.stream) * self.rate)
        return promised or None

    def __iter__(self) -> Iterator[Frame]:
        """Raises EffkerasError at the frame where the file is damaged, and at the end if it is cut short."""
        number, end = 0, 0.0
        with _explained(self.path, lambda: f"damaged at frame {number}; {_WAY_OUT}"):
            for decoded in self.container.decode(self.stream):
                time = float(number / self.rate) if decoded.time is None else decoded.time
                yield Frame(number, time, _upright(decoded))
                lasts = (decoded.duration or 0) * (decoded.time_base or 0)
                number, end = number + 1, time + float(max(lasts, 1 / self.rate))
        _refuse_short(self, number, end)


@contextlib.contextmanager
def open_video(path: Path) -> Iterator[Video]:
    """Opens a video file.

    Raises EffkerasError when PyAV is not installed, or the file is missing, no video or damaged.
    """
    av = _pyav()
    if not path.is_file():
        raise EffkerasError(f"there is no video {path}")
    with _explained(path, lambda: f"no video, or damaged at its start; {_WAY_OUT}"):
        container = av.open(str(path))
    with container:
        if not container.streams.video:
            raise EffkerasError(f"{path}: no video: sound or text alone, or damaged at its start; {_WAY_OUT}")
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        yield Video(path, container, stream)


@contextlib.contextmanager
def write_video(path: Path, like: Video) -> Iterator[Callable[[float, np.ndarray], None]]:
    """Writes an MP4 (H.264), whole or not at all: yields what adds a frame, given its time and its pixels.

    Frames keep the times they are given, in the clock of `like`. Pixels are uint8 (height, width, 3); all
    frames get the size of the first, made even as the format needs it. There is no sound.
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
    """Opens its stream with the first frame, whose size it takes."""

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
        frame.pts = int(max(round(time / self._clock), self._next))  # two may be stated for the same moment
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
    """Whether a file's name says that it is a video."""
    return path.suffix.lower() in SUFFIXES


def _pyav() -> ModuleType:
    try:
        import av
    except ImportError as error:
        raise EffkerasError("videos need PyAV; install it with: pip install 'effkeras[video]'") from error
    return av


@contextlib.contextmanager
def _explained(path: Path, what: Callable[[], str]) -> Iterator[None]:
    """FFmpeg's errors as one line."""
    try:
        yield
    except _pyav().error.FFmpegError as error:
        reason = error.strerror or type(error).__name__
        raise EffkerasError(f"{path}: {what()} ({reason})") from error


def _refuse_short(video: Video, frames: int, end: float) -> None:
    """Frames may be missing where a video was cut without encoding it again; then it promises less time."""
    promised = _duration(video.stream)
    start = float((video.stream.start_time or 0) * video.stream.time_base)
    missing = round((start + promised - end) * video.rate) if promised else 0
    if frames == 0 or (missing > _MISSED and frames < (video.stream.frames or math.inf)):
        whole = f"{end:.2f} of {promised:.2f} seconds" if promised else "nothing"
        raise EffkerasError(f"{video.path}: the video is cut short ({whole} can be read); {_WAY_OUT}")


def _duration(stream: Any) -> float:
    """Seconds that a stream promises to last; 0 when it does not say, or says it in a way of its own."""
    if stream.duration is not None:
        return float(stream.duration * stream.time_base)
    said = _CLOCK.fullmatch(stream.metadata.get("DURATION", ""))  # Matroska
    return 3600 * int(said[1]) + 60 * int(said[2]) + float(said[3]) if said else 0.0


def _upright(decoded: Any) -> np.ndarray:
    quarters = round(decoded.rotation / 90) % 4  # counter-clockwise, as numpy's
    return np.ascontiguousarray(np.rot90(decoded.to_ndarray(format="rgb24"), quarters))


def _even(pixels: np.ndarray) -> np.ndarray:
    """Height and width made even by repeating the last line: colour is stored at half the resolution."""
    height, width = pixels.shape[:2]
    return np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
