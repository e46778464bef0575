"""Every measured fact is one record: it reads back from the row that it wrote, and from older rows."""

from __future__ import annotations

import json

import pytest

from effkeras import EffkerasError
from effkeras.support.measurements import Delegation, Latency
from effkeras.support.results import CheckedRow

OLD = {
    "kernels": "XNNPACK",
    "threads": 1,
    "runs": 50,
    "min_ms": 1.1,
    "mean_ms": 1.25,
    "median_ms": None,
    "total_ops": 182,
    "delegated_ops": 180,
    "partitions": 3,
}


def latency(**changed) -> Latency:
    given = {"delegation": Delegation(182, 180, 3, False), "peak_bytes": 5, "details": {"turns": 2}}
    return Latency("gpu", "phone GPU", 1, 50, 10, 1.1, 1.25, 1.21, None, **(given | changed))


@pytest.mark.parametrize("whole", [None, True, False])
def test_a_latency_reads_back_from_its_row(whole):
    written = latency(delegation=Delegation(182, None, None, whole))
    row = json.loads(json.dumps(written.to_row()))
    assert Latency.from_row(CheckedRow(row, "rows.jsonl")) == written


def test_a_row_without_the_newer_keys_is_read():
    found = Latency.from_row(CheckedRow(OLD, "rows.jsonl"))
    assert (found.delegate, found.warmup, found.delegation) == ("", 0, Delegation(182, 180, 3))
    assert (found.median_ms, found.typical_ms) == (None, 1.25)


def test_a_wrong_value_is_named():
    with pytest.raises(EffkerasError, match=r"rows\.jsonl: .*min_ms = 'fast', not a number"):
        Latency.from_row(CheckedRow({**OLD, "min_ms": "fast"}, "rows.jsonl"))


def test_a_delegation_reads_well():
    assert str(Delegation(10, 9, 2)) == "9 of 10 ops, 2 partitions"
    assert str(Delegation(10, 10, 1)) == "10 of 10 ops, 1 partition"
    assert str(Delegation(10, whole=False)) == "not all of 10 ops"


@pytest.mark.parametrize(
    ("delegation", "text"),
    [
        (Delegation(65, 63, 2, False), "63/65 in 2"),
        (Delegation(65, 0, 0, False), "-"),
        (Delegation(65), "-"),
        (Delegation(65, None, None, True), "all"),
        (Delegation(65, None, 3, False), "part in 3"),
        (Delegation(65, None, None, False), "part"),
    ],
)
def test_a_column_shows_a_delegation_in_short(delegation, text):
    assert delegation.short() == text
