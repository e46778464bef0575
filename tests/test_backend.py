"""Keras on another backend: models run, and what needs TensorFlow says so in one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from support.tiny import tiny_classifier

from effkeras.support import backend as backends
from effkeras.support.backend import backend, need_tensorflow
from effkeras.support.errors import EffkerasError


def effkeras(*words: str, backend: str, cwd: object) -> tuple[int, str]:
    """The exit code and the errors of a command with this backend."""
    found = subprocess.run(
        [sys.executable, "-m", "effkeras", *words],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=os.environ | {"KERAS_BACKEND": backend, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    return found.returncode, found.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("train", "own.toml", "--data", "data", "--out", "run"),
        ("quantize", "own.toml", "--recipe", "int8", "--data", "data"),
        ("export", "tflite", "own.toml"),
        ("export", "savedmodel", "own.toml"),
        ("search", "digits-tiny", "--data", "data", "--trials", "1", "--out", "out"),
        ("sensitivity", "own.toml", "--data", "data"),
    ],
    ids=" ".join,
)
def test_what_needs_tensorflow_says_so(words, monkeypatch, capsys):
    from effkeras.cli import main

    monkeypatch.setattr(backends, "backend", lambda: "jax")
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "needs Keras on TensorFlow, and its backend is jax; run it again with KERAS_BACKEND=" in said
    assert said.count("\n") == 1


def test_what_needs_no_keras_works_on_any_backend(tmp_path):
    assert effkeras("list", backend="no-such", cwd=tmp_path) == (0, "")
    assert effkeras("info", "efficientnet-b0", backend="no-such", cwd=tmp_path)[0] == 0


def test_a_backend_that_is_not_installed_is_one_line(tmp_path, digit_classes):
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError('No module torch', name='torch')\n")
    (tmp_path / "own.toml").write_text(tiny_classifier().to_toml())
    words = ("predict", "own.toml", str(digit_classes / "test" / "0"))
    for name, message in (
        ("torch", "the backend of Keras is torch, which is not installed; install it, or run again"),
        ("no-such", "Keras has no backend 'no-such'; run again with KERAS_BACKEND=tensorflow"),
    ):
        code, said = effkeras(*words, backend=name, cwd=tmp_path)
        assert (code, said.splitlines()[-1][: len(message) + 7]) == (2, f"error: {message}")
        assert "Traceback" not in said


def test_the_backend_is_found_as_keras_finds_it(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "keras", raising=False)
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    assert backend() == "tensorflow"
    (tmp_path / "keras.json").write_text(json.dumps({"backend": "jax"}))
    assert backend() == "jax"
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    assert backend() == "torch"
    with pytest.raises(EffkerasError, match="this needs Keras on TensorFlow, and its backend is torch"):
        need_tensorflow("this")
