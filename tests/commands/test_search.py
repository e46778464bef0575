"""`effkeras search`: options become a job, bad ones a line; what is shown fits a terminal."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest
from support.fake_search import fake_job
from support.space_files import shipped
from support.tiny import digits_folder

from effkeras.commands import search as command
from effkeras.search.evaluation.block_tables import distinct
from effkeras.search.evaluation.costs import LimitedSpace
from effkeras.search.folder import description
from effkeras.search.genomes import sample
from effkeras.search.options import job_of, size_of
from effkeras.search.run import Status, line, short_amount
from effkeras.search.spaces.reading import space_summaries
from effkeras.search.strategies.strategy import strategy_summaries
from effkeras.search.trials.records import Result, Trial
from effkeras.support.measurements import BlockLatency, BlockShape, BlockTable, write_blocks


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    return digits_folder(tmp_path_factory.mktemp("data") / "classes", classify=True)


def job(*words, data, out="out"):
    options = ["digits-blocks", "--data", str(data), "--trials", "3", "--out", str(out), *words]
    return job_of(command._parser().parse_args(options))


def test_options_become_a_job(classes, tmp_path):
    made = job("--target", "2e6", "--seed", "4", "--option", "population=9", "--option", "tournament=2",
               "--epochs", "2", "--pruner", "halving", data=classes, out=tmp_path)  # fmt: skip
    assert (made.seed, made.pruner, made.trials, made.out) == (4, "halving", 3, tmp_path)
    assert (made.strategy.name, made.strategy.options) == ("evolution", {"population": 9, "tournament": 2})
    assert (made.objective.kind, made.objective.cost, made.objective.target) == ("mnas", "macs", 2e6)
    assert made.evaluation.settings.epochs == 2
    assert made.evaluation.settings.costs == ("parameters", "macs")
    assert len(made.classes.labels) == 10
    assert made.space.name == "digits-blocks"


def test_a_grid_has_no_more_trials_than_networks(classes):
    words = ["--data", str(classes), "--trials", "2000", "--out", "out", "--strategy"]
    trials = [
        job_of(command._parser().parse_args(["digits-tiny", *words, strategy, *limits])).trials
        for strategy, limits in (("grid", []), ("grid", ["--constraint", "macs=180e3"]), ("random", []))
    ]
    assert trials[0] == 1088
    assert 0 < trials[1] < 1088
    assert trials[2] == 2000


def test_without_a_target_accuracy_counts(classes):
    assert job(data=classes).objective.kind == "accuracy"


@pytest.mark.parametrize("strategy", ["nsga2", "random", "grid"])
def test_a_front_is_for_strategies_that_weigh_the_cost(classes, strategy):
    words = [] if strategy == "nsga2" else ["--strategy", strategy]
    assert job("--objective", "pareto", *words, data=classes).strategy.name == strategy


@pytest.mark.parametrize(
    ("words", "is_noted"),
    [
        (["--cost", "latency_ms", "--target", "1", "--workers", "2"], True),
        (["--constraint", "latency_ms=2", "--ray", "auto"], True),
        (["--cost", "latency_ms", "--target", "1"], False),
        (["--target", "2e6", "--workers", "2"], False),
    ],
)
def test_workers_disturb_what_is_timed(classes, capsys, words, is_noted):
    job(*words, data=classes)
    assert ("effkeras search table" in capsys.readouterr().err) == is_noted


@pytest.mark.parametrize(("target", "said"), [("1", "has macs 338,688, over the target of 1\n"), ("2e6", "")])
def test_a_target_that_nothing_meets_is_noted(classes, capsys, target, said):
    job("--objective", "mnas-hard", "--target", target, data=classes)
    noted = capsys.readouterr().err
    assert noted.endswith(said)
    assert ("cheapest" in noted) == bool(said)


def test_a_limit_narrows_the_space(classes):
    made = job("--constraint", "macs=3e6", data=classes)
    assert made.objective.limits == {"macs": 3e6}
    assert made.space.limits == {"macs": 3e6}
    assert made.evaluation.space.name == "digits-blocks"


def table_of(folder):
    """A table of all blocks of digits-blocks, as of ten classes, which take a millisecond each."""
    space = shipped("digits-blocks")
    pieces = [place.piece for place in distinct(map(space.spec, space.covering()))]
    shapes = [
        BlockShape(str(i), "float32", (one.inputs,), (one.outputs,), 1, 1, one.stage)
        for i, one in enumerate(pieces)
    ]
    times = [BlockLatency(str(i), "XNNPACK", 1, 1, 1, 1) for i in range(len(pieces))]
    write_blocks(folder / "blocks.toml", BlockTable("t", "by hand", {}, {}, 1, tuple(shapes), tuple(times)))


def test_a_table_is_the_same_from_any_folder(classes, tmp_path, monkeypatch):
    """For the search's identity, and for workers, which may be in any folder."""
    table_of(tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "settings.toml").write_text('costs = ["table:blocks.toml"]\n')
    found = []
    for folder, file in ((tmp_path, "blocks.toml"), (tmp_path / "other", "../blocks.toml")):
        monkeypatch.chdir(folder)
        config = file.replace("blocks", "settings")
        words = [
            "--cost",
            f"table:{file}",
            "--target",
            "9",
            "--constraint",
            f"table:{file}=6",
            "--config",
            config,
        ]
        made = job(*words, data=classes, out=tmp_path / "out")
        found.append(description(made))
        name = f"table:{tmp_path / 'blocks.toml'}"
        assert (made.objective.cost, dict(made.objective.limits)) == (name, {name: 6})
        assert made.evaluation.settings.costs == (name,)
        assert made.space.limits == {name: 6}
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--strategy", "evolutoin"], "did you mean 'evolution'"),
        (["--option", "poplation=3"], "did you mean 'population'"),
        (["--option", "population"], "should be NAME=VALUE"),
        (["--constraint", "macs=much"], "should be NAME=NUMBER"),
        (
            ["--constraint", "parameters=10"],
            "is within the limits: the cheapest found has parameters",
        ),
        (["--cost", "table:nosuch.toml", "--target", "3"], "nosuch.toml"),
        (["--cost", "table:", "--target", "3"], "there is no cost 'table:'"),
        (["--target", "-3"], "above 0"),
        (["--cost", "weight", "--target", "3"], "'weight'"),
        (["--objective", "abs"], "needs a target"),
        (["--objective", "pareto", "--pruner", "halving"], "Pareto"),
        (["--objective", "pareto", "--strategy", "tpe"], "choose one of grid, nsga2, random"),
        (["--epochs", "0"], "not above 0"),
        (["--evaluation", "guess"], "'guess'"),
    ],
)
def test_bad_options_are_one_line(classes, tmp_path, capsys, words, said):
    out = tmp_path / "out"
    options = ["digits-blocks", "--data", str(classes), "--trials", "3", "--out", str(out)]
    assert command.main([*options, *words]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert said in error
    assert not out.exists()


def test_a_removed_evaluation_is_one_line(classes, tmp_path, capsys):
    options = ["pnasnet-cells", "--data", str(classes), "--trials", "3", "--out", str(tmp_path / "out")]
    assert command.main([*options, "--evaluation", "supernet"]) == 2
    assert "supernet was removed" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_help_lists_spaces_and_strategies(capsys):
    with pytest.raises(SystemExit):
        command.main(["--help"])
    said = " ".join(capsys.readouterr().out.split())  # long lines are wrapped
    for name, about in (space_summaries() | strategy_summaries()).items():
        assert about
        assert f" {name} {about} " in f"{said} "


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ("digits-tiny", "digits-tiny has 1,088 networks"),
        ("pnasnet-cells", r"pnasnet-cells has about [34]\.\de12 networks"),
    ],
)
def test_the_size_of_the_space_is_said(tmp_path, space, said):
    for made in (shipped(space), LimitedSpace(shipped(space), {"macs": 1})):
        assert re.fullmatch(said, size_of(fake_job(tmp_path, space=made)))


def test_data_with_boxes_do_not_fit_a_classifier(digits, tmp_path, capsys):
    options = ["digits-blocks", "--data", str(digits), "--trials", "3", "--out", str(tmp_path / "out")]
    assert command.main(options) == 2
    assert "needs a folder per class" in capsys.readouterr().err


def status(**changes):
    result = Result(0.91234, 0.95, {"macs": 2_345_678.0})
    best = Trial(1234, 1, (0,), 0, "complete", 0, tell=3, result=result)
    plain = {"trials": 10, "finished": 3, "failed": 0, "pruned": 0, "running": 2, "repeats": 0, "best": best}
    return Status(**{**plain, **changes})


def test_it_ends_with_what_to_do_next(classes, tmp_path, capsys):
    made = job(data=classes, out=tmp_path)
    genome = sample(made.space, np.random.default_rng(0))
    found = dataclasses.replace(status().best, genome=genome)
    assert command._conclude(made, status(best=found), classes) == 0
    shown, best = capsys.readouterr(), tmp_path / "best.toml"
    assert shown.out.splitlines()[-1] == f"{best}: the best as a model"
    train, report = shown.err.splitlines()[-2:]
    assert train == f"next: effkeras train {best} --data {classes} --out {tmp_path}-best"
    assert report == f"to look at the search: effkeras search report {tmp_path}"


def test_a_front_ends_with_all_of_its_networks(classes, tmp_path, capsys):
    made = job("--objective", "pareto", data=classes, out=tmp_path)
    genome = sample(made.space, np.random.default_rng(0))
    (tmp_path / "front").mkdir()
    (tmp_path / "front" / "3.toml").touch()
    assert (
        command._conclude(made, status(best=dataclasses.replace(status().best, genome=genome)), classes) == 0
    )
    front = capsys.readouterr().out.splitlines()[-2]
    assert front == f"{tmp_path / 'front'}: 1 definition, the front of accuracy and macs"


def test_the_live_line_fits_80_columns():
    assert line(status(), "macs") == "2 running; best 0.9123 (accuracy 0.9500, macs 2.35M)"
    assert len(line(status(failed=100, pruned=10), "macs")) <= 80
    assert line(status(best=None), "macs") == "2 running; none is finished yet"


@pytest.mark.parametrize(
    ("value", "text"), [(12.5, "12.5"), (912, "912"), (45_100, "45.1k"), (3.21e6, "3.21M"), (4e9, "4G")]
)
def test_amounts(value, text):
    assert short_amount(value) == text
