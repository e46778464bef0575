"""What all tests share."""

from __future__ import annotations

import os
from collections import Counter

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["EFFKERAS_FSYNC"] = "0"  # waiting for the disk at each of ten thousand files takes minutes

import hypothesis
import pytest
from support.tiny import digits_folder

# The same examples in every run, as everything else here.
hypothesis.settings.register_profile("same", derandomize=True, deadline=None)
hypothesis.settings.load_profile("same")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Files with slow tests come first, then those with many: no worker starts a long one at the end."""
    count = Counter(item.path for item in items)
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.path not in slow, -count[item.path], item.path))


@pytest.fixture(scope="module", autouse=True)
def seeded():
    """Random weights are the same in every run of a file, whatever ran before it and beside it."""
    import keras

    keras.utils.set_random_seed(0)


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """A few images of digits with boxes, 64 px."""
    return digits_folder(tmp_path_factory.mktemp("data") / "digits", size=64, max_digits=3)


@pytest.fixture(scope="session")
def digit_classes(tmp_path_factory):
    """A few images of digits, a folder per class."""
    return digits_folder(tmp_path_factory.mktemp("data") / "classes", classify=True)
