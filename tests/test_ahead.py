"""Threads compute ahead, in order, and no further than they may."""

from __future__ import annotations

import threading
from contextlib import closing

import pytest

from effkeras.support.ahead import mapped_ahead


@pytest.mark.parametrize("threads", [1, 3])
def test_results_come_in_order_and_not_too_many(threads):
    drawn = []

    def items():
        for number in range(9):
            drawn.append(number)
            yield number

    results = mapped_ahead(lambda number: number**2, items(), ahead=2, threads=threads)
    for number, found in enumerate(results):
        assert found == number**2
        assert len(drawn) <= number + 3


def test_the_next_result_is_computed_while_the_caller_works():
    begun = [threading.Event() for _ in range(3)]
    with closing(mapped_ahead(lambda event: event.set(), begun, ahead=1)) as results:
        next(results)
        assert begun[1].wait(10)


def test_errors_come_where_their_results_would():
    with closing(mapped_ahead(lambda number: 1 // number, [2, 1, 0, 5], ahead=3)) as results:
        assert [next(results), next(results)] == [0, 1]
        with pytest.raises(ZeroDivisionError):
            next(results)


def test_who_stops_early_leaves_no_thread_behind():
    before = threading.active_count()
    with closing(mapped_ahead(abs, range(100), ahead=5, threads=2)) as results:
        next(results)
    assert threading.active_count() == before
