"""What is saved comes back exactly; what is broken is refused."""

from __future__ import annotations

import json
import zipfile

import keras
import numpy as np
import pytest

from effkeras.layers import DropBlock, DropPath
from effkeras.support.errors import EffkerasError
from effkeras.training.checkpoint import Progress, load_checkpoint, save_checkpoint


def variables(fill: float) -> list[keras.Variable]:
    return [keras.Variable(np.full((2, 3), fill, np.float32)), keras.Variable(np.int64(fill), dtype="int64")]


def test_round_trip(tmp_path):
    path, progress = tmp_path / "c.npz", Progress(step=3, best=0.5, best_step=2, stopped=True, seconds=1.5)
    save_checkpoint(path, variables(4), progress)
    restored = variables(0)
    assert load_checkpoint(path, restored) == progress
    assert [float(np.sum(value)) for value in restored] == [24.0, 4.0]


def test_progress_in_epochs_is_read(tmp_path):
    """As runs of earlier versions have it."""
    table = {"epoch": 4, "best": 0.9, "best_epoch": 2, "stopped": True}
    np.savez(tmp_path / "c.npz", progress=np.frombuffer(json.dumps(table).encode(), np.uint8))
    found = load_checkpoint(tmp_path / "c.npz", [], steps_per_epoch=3)
    assert found == Progress(step=12, best=0.9, best_step=6, waited=2, stopped=True)


@pytest.mark.parametrize("keep", [0, 10, 200, -1])
def test_truncated_file_is_refused(tmp_path, keep):
    path = tmp_path / "c.npz"
    save_checkpoint(path, variables(4), Progress())
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(EffkerasError, match=r"damaged \(.*\); delete it, and the training starts again"):
        load_checkpoint(path, variables(0))


def test_other_model_is_refused(tmp_path):
    path = tmp_path / "c.npz"
    save_checkpoint(path, variables(4), Progress())
    with pytest.raises(EffkerasError, match="from another model"):
        load_checkpoint(path, variables(0)[:1])


def test_pickles_are_never_read(tmp_path):
    path = tmp_path / "c.npz"
    np.savez(path, v0=np.array([{}], dtype=object), progress=np.zeros(2, np.uint8))
    with pytest.raises(EffkerasError, match="damaged"):
        load_checkpoint(path, variables(0)[:1])


@pytest.mark.parametrize(
    ("name", "content"),
    [("v0", b"no array"), ("v0.npy", b"\x93NUMPY\x01\x00\x0e\x00{'descr': ((((")],
)
def test_what_is_no_array_is_refused(name, content, tmp_path):
    """The second ended in a TokenError of numpy's reader, the first in an AttributeError."""
    path = tmp_path / "c.npz"
    np.savez(path, progress=np.frombuffer(b"{}", np.uint8))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, content)
    with pytest.raises(EffkerasError, match=r"is damaged|from another model") as caught:
        load_checkpoint(path, variables(0)[:1])
    assert len(str(caught.value).replace(str(path), "")) < 300


def test_random_layers_go_on_where_they_were(tmp_path):
    """DropBlock, drop-path and dropout draw after a resumption what they would have drawn."""
    x = keras.Input((8, 8, 4))
    y = DropPath(0.5)(DropBlock(0.5, 3)(keras.layers.Dropout(0.5)(x)))
    model = keras.Model(x, y)
    state = [variable.value for variable in model.variables]
    assert len(state) == 3
    ones = np.ones((8, 8, 8, 4), "float32")
    model(ones, training=True)
    save_checkpoint(tmp_path / "c.npz", state, Progress(step=1))
    draws = [np.asarray(model(ones, training=True)) for _ in range(2)]
    assert not np.array_equal(*draws)
    load_checkpoint(tmp_path / "c.npz", state)
    for draw in draws:
        np.testing.assert_array_equal(model(ones, training=True), draw)
