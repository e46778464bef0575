"""What all tests share."""

from __future__ import annotations

import gc
import os
from collections import Counter

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["EFFKERAS_FSYNC"] = "0"  # waiting for the disk at each of ten thousand files takes minutes
if "PYTEST_XDIST_WORKER" in os.environ:  # a worker has one core: more threads wait for each other
    for library in ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(library, "1")

import hypothesis
import pytest
from support.hints import check_hint
from support.proofs import COLLECTED, Collected
from support.tiny import digits_folder

# The same examples in every run, as everything else here.
hypothesis.settings.register_profile("same", derandomize=True, deadline=None)
hypothesis.settings.load_profile("same")
gc.disable()  # until the tests are collected, which keeps most of what it makes


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """Files with slow tests come first, then those with many: no worker starts a long one at the end."""
    config.stash[COLLECTED] = Collected.of(config, items)
    count = Counter(item.path for item in items)
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.path not in slow, -count[item.path], item.path))


@pytest.hookimpl(trylast=True)
def pytest_collection_finish():
    """What is here by now stays: the collector of garbage need not look at it, nor come so often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)
    gc.enable()


@pytest.fixture(scope="module", autouse=True)
def seeded():
    """Random weights are the same in every run of a file, whatever ran before it and beside it."""
    import keras

    keras.utils.set_random_seed(0)


@pytest.fixture(autouse=True)
def hints_can_be_run(monkeypatch):
    """Every command that a hint prints, in whichever test, is read by our own parsers."""
    from effkeras.support import console

    plain = console._hint

    def checked(command: str, what: str) -> str:
        check_hint(command)
        return plain(command, what)

    monkeypatch.setattr(console, "_hint", checked)


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """A few images of digits with boxes, 64 px."""
    return digits_folder(tmp_path_factory.mktemp("data") / "digits", size=64, max_digits=3)


@pytest.fixture(scope="session")
def digit_classes(tmp_path_factory):
    """A few images of digits, a folder per class."""
    return digits_folder(tmp_path_factory.mktemp("data") / "classes", classify=True)
