"""The measured sizes are as small as they should be, and a model that is larger is told apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from effkeras.support import results
from export.benchmarks import size
from export.benchmarks.size import GOALS, keeps, main

MEASURED = Path(__file__).parents[3] / "models" / "results.jsonl"


@pytest.mark.parametrize("model", GOALS)
def test_the_newest_measured_sizes_keep_the_goals(model):
    rows = [row for row in results.read(MEASURED) if (row["kind"], row.get("model")) == ("size", model)]
    assert keeps(rows[-1])


def test_the_table_names_the_goal_and_whether_it_is_kept(tmp_path, monkeypatch, capsys):
    sizes = {"efficientdet-lite0": 4_150_000, "efficientdet-lite4": 16_500_001}

    def row_of(model: str) -> results.Row:
        return {"kind": "size", "model": model, "float32_bytes": 9, "int8_bytes": sizes[model]}

    monkeypatch.setattr(size, "size_row", row_of)
    assert main(["--out", str(tmp_path / "rows.jsonl")]) == 0
    lines = capsys.readouterr().out.splitlines()
    ends = [line.split()[-1] for line in lines if "efficientdet" in line]
    assert ends == ["kept", "missed"]
    assert len(results.read(tmp_path / "rows.jsonl")) == 2
