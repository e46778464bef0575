"""The cases are recipes that can be carried out, and the table is made of the newest rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from effkeras import list_models, spec
from effkeras.support import results
from export.benchmarks.compression import CASES, Case, main, markdown, read_cases, speed_markdown

ROW = {
    "kind": "compression",
    "model": "efficientdet-digits",
    "recipe": {"name": "prune50"},
    "metric": "AP",
    "before": 0.824,
    "interval": [-0.001, 0.004],
    "goal": 0.01,
    "sparsity": 0.5,
    "int8_macs": 0.0,
    "bytes": 1_340_000,
    "gzipped_bytes": 700_000,
}


@pytest.mark.parametrize("name", read_cases())
def test_cases_name_shipped_models_and_recipes_that_exist(name):
    case = read_cases()[name]
    assert case.model in list_models()
    assert "digits" in spec(case.model).weights
    recipe = case.tuned_recipe()
    assert recipe.name == case.recipe
    assert recipe.ptq.backend == case.backend
    assert recipe.tune.epochs == case.epochs


def test_a_case_says_what_it_is():
    case = Case("efficientdet-digits", "prune50-int8", epochs=7, learning_rate=0.25)
    tune = case.tuned_recipe().tune
    assert (tune.epochs, tune.learning_rate) == (7, 0.25)


def test_the_table_has_the_newest_row_of_each_case():
    rows = [
        {**ROW, "case": "prune50", "after": 0.5, "drop": 0.324},
        {**ROW, "case": "prune50", "after": 0.822, "drop": 0.002},
        {**ROW, "kind": "export", "case": "prune80"},
    ]
    header, _, line = markdown(rows).splitlines()
    assert header.startswith("| model | what is done |")
    assert line.startswith("| det-digits | `prune50` | AP 0.824 | 0.822 | +0.0020 (-0.0010 to +0.0040) |")
    assert line.endswith("| 1340 | 700 |")


def test_the_table_says_what_else_was_done():
    plain = {**ROW, "recipe": {"name": "int8"}, "after": 0.82, "drop": 0.004}
    cases = ("int8-lite", "int8-d0-plain", "rescaled-plain")
    lines = markdown([{**plain, "case": case} for case in cases]).splitlines()[2:]
    assert [line.split(" | ")[1] for line in lines] == [
        "`int8`, --max-drop 0.005",
        "`int8`, TensorFlow's converter",
        "`int8`, channels rescaled before",
    ]


def measured() -> dict[str, dict]:
    """The newest row of each case that was measured."""
    rows = results.read(Path(__file__).parents[3] / "models" / "results.jsonl")
    return {row["case"]: row for row in rows if row["kind"] == "compression" and "case" in row}


def test_what_was_measured_keeps_the_goals():
    beyond = {
        name: row["drop"]
        for name, row in measured().items()
        if (goal := read_cases()[name].goal) is not None and row["drop"] > goal
    }
    assert not beyond


@pytest.mark.parametrize(
    ("trained", "plain"),
    [("qat-lite", "int8-lite"), ("qat-b0", "int8-b0-budget"), ("qat-d0", "int8-d0-budget")],
)
def test_training_for_int8_loses_no_more_than_int8_afterwards(trained, plain):
    assert measured()[trained]["drop"] <= measured()[plain]["drop"]


def test_times_before_and_after_pruning_stand_side_by_side():
    row = {
        "kind": "channel-speed",
        "model": "efficientdet-lite0",
        "side": 320,
        "recipe": "int8",
        "macs_before": 974e6,
        "macs_after": 487e6,
        "after": {"min_ms": 10.0},
    }
    rows = [{**row, "before": {"min_ms": ms}, "faster": ms / 10} for ms in (30.0, 18.0)]
    _, _, line = speed_markdown(rows).splitlines()
    assert line == "| efficientdet-lite0 | 320 | `int8` | 0.97 G | 0.49 G | 18.0 | 10.0 | 1.80 x |"


def test_an_unknown_case_is_one_clear_line(capsys, tmp_path):
    assert main(["--only", "prune5", "--data", str(tmp_path), "--out", str(tmp_path / "rows.jsonl")]) == 2
    assert "there is no case 'prune5'; did you mean 'prune50'?" in capsys.readouterr().err
    assert CASES.is_file()
