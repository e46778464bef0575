"""One estimate of the time left over all phases of a command."""

from __future__ import annotations

import pytest

from effkeras.support.console import track
from effkeras.support.phases import Phases, active_phases, begin_phase, phases, skip_phase


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_the_time_left_is_that_of_all_phases(clock):
    found = Phases([("tuning", 300), ("converting", 50), ("measuring", 100)], clock)
    assert found.left() is None
    found.begin("tuning")
    assert (found.place, found.left()) == ("1/3", None)
    clock.now = 10
    found.saw("bar", 0.1)
    assert found.left() == pytest.approx(90 + 50)
    found.saw("a bar inside", 1.0)
    assert found.left() == pytest.approx(140)
    clock.now = 60
    found.saw("bar", 0.5)  # and it stops early there: 150 of work took 60 s
    found.begin("converting")
    assert found.left() == pytest.approx(150 * 0.4)
    clock.now = 80
    found.begin("measuring")
    assert (found.place, found.left()) == ("3/3", pytest.approx(100 * 80 / 200))


def test_phases_are_left_out_and_added(clock):
    found = Phases([("a", 1), ("b", 1), ("c", 1), ("d", 1)], clock)
    found.skip("b")
    found.begin("a")
    assert found.place == "1/3"
    found.begin("not planned")
    assert found.place == "2/4"
    found.begin("d")  # without c
    assert found.place == "3/3"


def test_bars_show_the_phase(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # as on a terminal
    begin_phase("nothing runs")
    with phases([("one", 1), ("two", 1)]):
        begin_phase("two")
        skip_phase("two")
        with phases([("inner", 1)]):  # a command inside a command
            assert list(track([1, 2], "looking")) == [1, 2]
    assert active_phases() is None
    assert "1/1 looking" in capsys.readouterr().err
