"""Tables of trained networks: read back whole, refused with the place of the fault."""

from __future__ import annotations

import json

import numpy as np
import pytest
from support.toy_space import ToySpace

from effkeras.search.benchmarks import strategy_bench
from effkeras.search.benchmarks.table_space import read_table
from effkeras.search.genomes import all_genomes, key, sample
from effkeras.search.spaces.reading import read_space
from effkeras.support import results
from effkeras.support.errors import EffkerasError

GENES = {gene.name: list(gene.choices) for gene in ToySpace.genes}
ROWS = {
    key(genome): {"accuracy": 0.5 + sum(genome) / 20, "parameters": 100 + sum(genome), "macs": 7}
    for genome in all_genomes(ToySpace())
}
CSV = "genome,accuracy,parameters\n0-0,0.5,10\n0-2,0.75,20\n1-0,0.25,5\n"


def written(folder, text, name="table.json"):
    file = folder / name
    file.write_text(text if isinstance(text, str) else json.dumps(text), encoding="utf-8")
    return file


def test_a_json_table_is_a_space(tmp_path):
    table = read_table(written(tmp_path, {"genes": GENES, "rows": ROWS}), ToySpace())
    assert [gene.name for gene in table.genes] == list(GENES)
    assert set(all_genomes(table)) == set(all_genomes(ToySpace()))
    assert table.canonical((2, 1, 0, 1)) == (0, 0, 2, 1)
    outcome = table.outcome((0, 0, 2, 1))
    assert outcome.accuracy == ROWS["0-0-2-1"]["accuracy"]
    assert outcome.costs == {"parameters": 103, "macs": 7}
    assert table.knows("macs")
    assert not table.knows("bytes")


def test_a_csv_table_is_a_plain_space(tmp_path):
    table = read_table(written(tmp_path, CSV, "t.csv"))
    assert [len(gene.choices) for gene in table.genes] == [2, 3]
    assert table.outcome((0, 2)).accuracy == 0.75
    assert table.problem((1, 2)) == "the table has no network 1-2"
    assert {sample(table, np.random.default_rng(seed)) for seed in range(40)} == {(0, 0), (0, 2), (1, 0)}


@pytest.mark.parametrize(
    ("text", "name", "reason"),
    [
        ("{", "t.json", "t.json is not valid JSON"),
        ([1], "t.json", 'a table of networks is {"genes"'),
        ({"genes": GENES, "rows": {}}, "t.json", "the table has no rows"),
        ({"genes": {"a": 3}, "rows": ROWS}, "t.json", "a must be a list of choices"),
        ({"genes": GENES, "rows": {"0-0-1-0": 0.5}}, "t.json", "0-0-1-0 must be a table"),
        ({"genes": GENES, "rows": {"9-0-1-0": {}}}, "t.json", "'9-0-1-0' is no genome of this space"),
        ({"genes": GENES, "rows": {"0-0-1-0": {"macs": 1}}}, "t.json", "0-0-1-0: the accuracy is missing"),
        ({"genes": GENES, "rows": {"0-0-1-0": {"accuracy": 93}}}, "t.json", "from 0 to 1, not 93"),
        ({"genes": GENES, "rows": {"0-0-1-0": {"accuracy": None}}}, "t.json", "must be a number, not None"),
        ('{"genes": {"a": [1, 2]}, "rows": {"0": {"accuracy": NaN}}}', "t.json", "a finite number"),
        ("accuracy\n0.5\n", "t.csv", "the first line must name the columns"),
        ("genome,accuracy\n0-0\n", "t.csv", "line 2: other than 2 columns"),
        ("genome,accuracy\n0-0,0.5\n0-0,0.6\n", "t.csv", "line 3: the genome 0-0 is there twice"),
        ("genome,accuracy\n0-x,0.5\n", "t.csv", "genomes should be numbers"),
        ("genome,accuracy\n0-1,0.5\n0,0.5\n", "t.csv", "of the same length"),
        ("genome,accuracy\n", "t.csv", "the table has no rows"),
    ],
)
def test_broken_tables_are_refused(tmp_path, text, name, reason):
    with pytest.raises(EffkerasError, match=reason):
        read_table(written(tmp_path, text, name))


def test_a_table_of_another_space_is_refused(tmp_path):
    with pytest.raises(EffkerasError, match="a table of another space"):
        read_table(written(tmp_path, CSV, "t.csv"), ToySpace())
    rows = {"2-1-0-1": {"accuracy": 0.5}}
    with pytest.raises(EffkerasError, match="2-1-0-1: no canonical genome"):
        read_table(written(tmp_path, {"genes": GENES, "rows": rows}), ToySpace())


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(EffkerasError, match=r"cannot read .*none.json: No such file"):
        read_table(tmp_path / "none.json")


def test_the_bench_runs_on_a_table(tmp_path, capsys):
    file, out = written(tmp_path, {"genes": GENES, "rows": ROWS}), tmp_path / "results.jsonl"
    words = ["--table", str(file), "--out", str(out), "--seeds", "3", "--evaluations", "5"]
    assert strategy_bench.main([*words, "--only", "evolution"]) == 0
    written_rows = results.read(out)
    assert [row["strategy"] for row in written_rows] == ["random", "evolution", "largest"]
    assert all(row["kind"] == "search" and row["problem"] == "table.json" for row in written_rows)
    assert written_rows[2]["regret"] == [0, 0, 0]
    assert "largest" in capsys.readouterr().out


def test_a_few_networks_of_a_large_space_are_refused(tmp_path, capsys):
    space = read_space("digits-blocks")
    rows = {key(sample(space, np.random.default_rng(seed))): {"accuracy": 0.5} for seed in range(1, 6)}
    genes = {gene.name: list(gene.choices) for gene in space.genes}
    file = written(tmp_path, {"genes": genes, "rows": rows})
    assert (
        strategy_bench.main(["--table", str(file), "--space", "digits-blocks", "--out", str(tmp_path / "r")])
        == 2
    )
    assert "too few of its space" in capsys.readouterr().err


def test_the_bench_runs_on_landscapes(tmp_path, capsys):
    out = tmp_path / "results.jsonl"
    words = ["--out", str(out), "--seeds", "2", "--first-seed", "7", "--evaluations", "30"]
    assert strategy_bench.main([*words, "--only", "logits", "random"]) == 0
    random, logits = results.read(out)
    assert (random["strategy"], logits["strategy"]) == ("random", "logits")
    assert (logits["first_seed"], logits["seeds"], logits["evaluations"]) == (7, 2, 30)
    assert random["ties"] == 2
    assert "a tie is no win" in capsys.readouterr().out


def test_the_bench_refuses_an_unknown_strategy(tmp_path, capsys):
    assert strategy_bench.main(["--only", "evolutoin", "--out", str(tmp_path / "r.jsonl")]) == 2
    assert "did you mean 'evolution'" in capsys.readouterr().err
