"""Videos are read as they are meant to be shown, and written as they were read."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest

from effkeras.inference import video as video_module
from effkeras.inference.video import Frame, Video, is_video, open_video, write_video
from effkeras.support.errors import EffkerasError

CODECS = {"mp4": "h264", "mov": "h264", "mkv": "h264", "avi": "mpeg4", "webm": "libvpx-vp9"}
COUNT, RATE, SIZE = 24, Fraction(12), (64, 96)
CLOCKWISE = (0, 1 << 16, 0, -1 << 16, 0, 0, SIZE[0] << 16, 0, 1 << 30)  # QuickTime's matrix of a quarter turn


def drawn(number: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """A red square that moves right by two pixels a frame."""
    pixels = np.full((*size, 3), 40, np.uint8)
    pixels[8:28, 2 * number : 2 * number + 20] = (240, 40, 40)
    return pixels


def make(path: Path, rate: Fraction = RATE, movflags: str = "") -> Path:
    with av.open(str(path), "w", options={"movflags": movflags} if movflags else {}) as container:
        stream = container.add_stream(CODECS[path.suffix[1:]], rate=rate)
        stream.height, stream.width = SIZE
        stream.pix_fmt = "yuv420p"
        for number in range(COUNT):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(drawn(number), format="rgb24")))
        container.mux(stream.encode(None))
    return path


def read(path: Path) -> list[Frame]:
    with open_video(path) as video:
        return list(video)


@pytest.mark.parametrize(
    ("said", "frames"),
    [
        ("00:00:02.500000000", 30),
        ("12.5", None),
        ("", None),
        ("0:nan:1", None),
        ("0:0:inf", None),
        ("²:0:0", None),
        (f"{10**400}:0:0", None),
    ],
)
def test_a_duration_that_cannot_be_read_is_unknown(said, frames):
    stream = SimpleNamespace(frames=0, duration=None, average_rate=RATE, metadata={"DURATION": said})
    assert Video(Path("odd.mkv"), None, stream).frames == frames


def copy_video(path: Path, out: Path, size: tuple[int, int] = SIZE) -> None:
    with open_video(path) as video, write_video(out, video) as add:
        for frame in video:
            add(frame.time, frame.pixels[: size[0], : size[1]])


def left_edge(pixels: np.ndarray) -> int:
    return int(np.flatnonzero((pixels[..., 0] > 140).any(axis=0))[0])


@pytest.mark.parametrize("suffix", CODECS)
def test_frames_come_in_order_with_their_times(suffix, tmp_path):
    path = make(tmp_path / f"moving.{suffix}")
    with open_video(path) as video:
        assert video.frames == COUNT
        assert video.rate == pytest.approx(RATE, rel=1e-3)
        frames = list(video)
    assert [frame.number for frame in frames] == list(range(COUNT))
    np.testing.assert_allclose([frame.time for frame in frames], np.arange(COUNT) / 12, atol=1e-3)
    for frame in frames:
        assert frame.pixels.shape == (*SIZE, 3)
        assert abs(left_edge(frame.pixels) - 2 * frame.number) <= 1
        assert np.abs(frame.pixels.astype(int) - drawn(frame.number)).mean() < 12


def test_a_rotated_video_is_turned(tmp_path):
    """As phones write what they film upright: the track's header asks for a quarter turn clockwise."""
    path = make(tmp_path / "upright.mp4")
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 44
    content[matrix : matrix + 36] = np.array(CLOCKWISE, ">i4").tobytes()
    path.write_bytes(content)
    for frame in read(path):
        wanted = np.rot90(drawn(frame.number), -1)
        assert frame.pixels.shape == wanted.shape
        assert np.abs(frame.pixels.astype(int) - wanted).mean() < 12


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi"])
@pytest.mark.parametrize("size", [SIZE, (63, 95)])
def test_what_is_written_keeps_times_and_pixels(suffix, size, tmp_path):
    """Odd sides are made even."""
    path, copy = make(tmp_path / f"moving.{suffix}"), tmp_path / "out" / "copy.mp4"
    copy_video(path, copy, size)
    original, again = read(path), read(copy)
    np.testing.assert_allclose([one.time for one in again], [one.time for one in original], atol=1e-3)
    with open_video(copy) as video:
        assert video.rate == pytest.approx(RATE, rel=1e-3)
    for one, other in zip(again, original, strict=True):
        assert one.pixels.shape == (*SIZE, 3)
        height, width = size[0] - 2, size[1] - 2
        difference = one.pixels[:height, :width].astype(int) - other.pixels[:height, :width]
        assert np.abs(difference).mean() < 12


def test_an_uncommon_rate_is_kept(tmp_path):
    path, copy = make(tmp_path / "ntsc.mp4", Fraction(30000, 1001)), tmp_path / "copy.mp4"
    copy_video(path, copy)
    with open_video(copy) as video:
        assert video.rate == Fraction(30000, 1001)


def test_frames_of_the_same_moment_are_all_written(tmp_path):
    path, copy = make(tmp_path / "moving.mp4"), tmp_path / "copy.mp4"
    with open_video(path) as video, write_video(copy, video) as add:
        for frame in video:
            add(frame.time - frame.number % 2 / 12, frame.pixels)
    assert len(read(copy)) == COUNT


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "webm"])
def test_a_video_cut_short_is_refused(suffix, kept, tmp_path):
    path = make(tmp_path / f"whole.{suffix}", movflags="faststart" if suffix == "mp4" else "")
    content = path.read_bytes()
    path.write_bytes(content[: round(kept * len(content))])
    with pytest.raises(EffkerasError, match=r"cut short|damaged") as error:
        read(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_nothing_is_written_when_reading_fails(tmp_path):
    path = make(tmp_path / "whole.mp4", movflags="faststart")
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(EffkerasError, match=r"cut short|damaged"):
        copy_video(path, tmp_path / "out.mp4")
    assert [one.name for one in tmp_path.iterdir()] == ["whole.mp4"]


@pytest.mark.parametrize("content", [b"", b"hello", b"\x00" * 5000])
def test_what_is_no_video_is_refused(content, tmp_path):
    (tmp_path / "not.mp4").write_bytes(content)
    with pytest.raises(EffkerasError, match="no video"):
        read(tmp_path / "not.mp4")


def test_sound_alone_is_refused(tmp_path):
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), format="fltp", layout="mono")
        silence.rate = 8000
        container.mux(stream.encode(silence))
        container.mux(stream.encode(None))
    with pytest.raises(EffkerasError, match="sound or text alone"):
        read(tmp_path / "sound.mp4")


def test_a_missing_video_is_named(tmp_path):
    with pytest.raises(EffkerasError, match=r"there is no video .*gone\.mp4"):
        read(tmp_path / "gone.mp4")


def test_without_the_library_one_line_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(EffkerasError, match=r"pip install 'effkeras\[video\]'"):
        read(tmp_path / "any.mp4")


def test_videos_are_known_by_their_names():
    assert is_video(Path("holiday.MP4"))
    assert not is_video(Path("holiday.jpg"))


def test_importing_loads_neither_the_library_nor_tensorflow():
    code = "import sys, effkeras.inference.video; assert not {'av', 'tensorflow', 'keras'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_playlist_leads_to_no_other_file(tmp_path):
    """FFmpeg goes by the content, whatever the file is called."""
    make(tmp_path / "secret.mkv")
    path = tmp_path / "a.mp4"
    path.write_text("ffconcat version 1.0\nfile secret.mkv\n")
    with av.open(str(path)) as container:  # as FFmpeg does by itself
        assert next(container.decode(video=0)).width == SIZE[1]
    with pytest.raises(EffkerasError, match="no video, or damaged at its start"), open_video(path):
        pass


def test_a_title_in_another_encoding_is_no_matter(tmp_path):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "xxxx"
        stream = container.add_stream("mpeg4", rate=5)
        stream.height, stream.width, stream.pix_fmt = 32, 48, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(drawn(0)[:32, :48], format="rgb24")))
        container.mux(stream.encode(None))
    path.write_bytes(path.read_bytes().replace(b"xxxx", b"gr\xfcn"))
    with open_video(path) as video:
        assert len(list(video)) == 1


def test_frames_of_gigabytes_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(video_module, "_MOST_PIXELS", SIZE[0] * SIZE[1] - 1)
    with (
        pytest.raises(EffkerasError, match="frames of 96 x 64 pixels are too large"),
        open_video(make(tmp_path / "a.mp4")),
    ):
        pass
