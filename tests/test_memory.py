"""The machine tells its memory, and the garbage collector is on again after a pause."""

from __future__ import annotations

import gc

import pytest

from effkeras.support.memory import machine_memory, without_garbage_collection


def test_the_collector_is_paused_and_goes_on():
    with pytest.raises(KeyError), without_garbage_collection():
        {}[gc.isenabled()]
    assert gc.isenabled()


def test_the_collector_is_off_meanwhile():
    with without_garbage_collection():
        assert not gc.isenabled()


def test_a_collector_that_was_off_stays_off():
    gc.disable()
    try:
        with without_garbage_collection():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_this_machine_has_some_memory():
    memory = machine_memory()
    assert memory is None or 2**28 < memory < 2**50
