"""A search's report: images and a page from the rows that it keeps."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys

import numpy as np
import pytest
import tomli_w
from support.fake_search import Fake, fake_job

from effkeras.commands import search as search_command
from effkeras.search.folder import description
from effkeras.search.genomes import chosen, key, sample
from effkeras.search.objectives import Objective
from effkeras.search.reporting.charts import _leave_out_the_worst
from effkeras.search.reporting.report import main, write_report
from effkeras.search.reporting.searches import importances, read_search
from effkeras.search.reporting.settings import baseline_command, objective_of
from effkeras.search.run import search
from effkeras.search.spaces.reading import read_space
from effkeras.search.trials.job import NamedStrategy
from effkeras.search.trials.workers import InProcess
from effkeras.support import results
from effkeras.support.drawing import LIGHT, new_canvas
from effkeras.support.errors import EffkerasError

SPACE = read_space("digits-blocks")


def row(trial, genome, **changes):
    wide = chosen(SPACE, genome)["stage2.outputs"] == 24
    return {
        "kind": "trial",
        "trial": trial,
        "tell": trial,
        "state": "complete",
        "genome": key(genome),
        "choices": chosen(SPACE, genome),
        "space": SPACE.name,
        "strategy": "random",
        "seed": 0,
        "reward": 0.9 + 0.001 * (trial % 7) if wide else 0.5 + 0.001 * (trial % 5),
        "accuracy": 0.9 if wide else 0.5,
        "costs": {"macs": 1e6 + trial},
        "metrics": {},
        "seconds": 1.0,
        **changes,
    }


SETTINGS = {
    "schema": 1,
    "seed": 4,
    "pruner": "none",
    "space": {"name": SPACE.name, "digest": SPACE.digest},
    "strategy": {"name": "evolution", "population": 9},
    "objective": {
        "is": "Objective",
        "kind": "mnas-hard",
        "cost": "macs",
        "target": 1.5e6,
        "limits": {"parameters": 5e5},
    },
    "evaluation": {
        "is": "Evaluation",
        "settings": {
            "is": "EvaluationSettings",
            "kind": "train",
            "epochs": 4,
            "batch": 64,
            "train_images": 500,
        },
        "data": {"is": "EvaluationData", "root": "/my data/digits", "skip_bad": False},
    },
    "definition": {"kind": "blocks", "summary": "Four stages"},
}
GENOMES = [sample(SPACE, np.random.default_rng(seed)) for seed in range(60)]


def write_search(folder, rows, settings=None, best=True):
    folder.mkdir()
    results.append(folder / "results.jsonl", rows)
    if settings is not None:
        (folder / "search.toml").write_text(tomli_w.dumps(settings))
    if best:
        (folder / "best.toml").write_text(SPACE.spec(GENOMES[0]).to_toml())
    return folder


def rows_of(count, **changes):
    return [row(trial, genome, **changes) for trial, genome in enumerate(GENOMES[:count])]


@pytest.fixture
def searched(tmp_path):
    """A search in which one gene alone decides."""
    random = np.random.default_rng(0)
    genomes = [sample(SPACE, random) for _ in range(60)]
    rows = [row(trial, genome) for trial, genome in enumerate(genomes)]
    rows.append(row(60, genomes[0], state="fail", reward=None, accuracy=None, reason="it was too large"))
    rows.append(row(61, genomes[1], same_as=1))
    rows.append(row(62, genomes[2], state="pruned"))
    return write_search(tmp_path / "mine", rows)


def written(*folders):
    """The report's Markdown and HTML."""
    page = write_report(folders)
    return page.with_name("report.md").read_text(), page.read_text()


def words(html):
    """What a reader sees, one space between words."""
    return " ".join(re.sub(r"<[^>]*>", " ", html.split("<body>")[1]).split())


def commands(markdown):
    return [shlex.split(line) for line in markdown.splitlines() if line.startswith("    effkeras")]


def test_trials_are_counted_by_what_became_of_them(searched):
    search = read_search(searched)
    assert (len(search.points), search.pruned, search.failed) == (60, 1, {"it was too large": 1})
    assert search.best.accuracy == 0.9


def test_the_gene_that_decides_is_the_most_important(searched):
    shares = importances(read_search(searched))
    assert next(iter(shares)) == "stage2.outputs"
    assert sum(shares.values()) == pytest.approx(1)


def test_everything_is_drawn(searched):
    markdown, html = written(searched)
    images = {file.stem for file in (searched / "report").glob("*.png")}
    assert images == {"progress", "pareto-macs", "importance", "winner"}
    assert all(f"]({name}.png)" in markdown for name in images)
    assert all(f'<figure class="{name}">' in html for name in images)
    assert "| mine | random | 62 | 1 | 1 | 0.9060 | 0.9000 |" in markdown
    assert "| mine | it was too large | 1 |" in markdown


def test_equal_rewards_rank_no_gene(tmp_path):
    mine = write_search(tmp_path / "mine", rows_of(20, reward=0.5))
    assert importances(read_search(mine)) == {}


def test_the_page_is_one_file(searched):
    _, html = written(searched)
    links = re.findall(r' (?:src|srcset|href|action|data)="([^"#]+)"', html)
    assert len(links) == 4 * 2  # for light and dark pages
    assert len(set(links)) == len(links)
    assert all(link.startswith("data:image/png;base64,") for link in links)
    text = re.sub(r"data:image/png;base64,[\w+/=]+", "", html)
    assert not re.search(r"https?:|url\(|@import|<script[^>]* src|<link", text)


def test_the_page_says_what_was_searched(tmp_path):
    mine = write_search(tmp_path / "mine", rows_of(20, strategy="evolution"), SETTINGS)
    markdown, html = written(mine)
    for said in (
        "Four stages: 20 candidates with evolution.",
        "Space digits-blocks",
        "Strategy evolution (population 9)",
        "Objective accuracy x min((multiply-adds / 1,500,000)^-1, 1)",
        "Limits parameters &lt;= 500,000",
        "Evaluation a training of 4 epochs, batch 64",
        "Images used 500 of train, all of validation",
        "Data /my data/digits",
        "Images 32 x 32 px",
        "Classes 10",
        "No candidate failed.",
    ):
        assert said in words(html)
    train = ["effkeras", "train", f"{mine}/best.toml", "--data", "/my data/digits", "--out", f"{mine}/winner"]
    assert train in commands(markdown)


def test_the_ten_best_are_named_and_compared(tmp_path):
    markdown, _ = written(write_search(tmp_path / "mine", rows_of(30)))
    figures = markdown.split("### Figures")[1].split("### Where they agree")[0]
    trials = [int(number) for number in re.findall(r"^\| trial (\d+) \|", figures, re.MULTILINE)]
    ranked = sorted(rows_of(30), key=lambda one: -one["reward"])[:10]
    assert trials == [one["trial"] for one in ranked]
    kernels = next(
        line for line in markdown.splitlines() if line.startswith("| stage2.kernel |") and "=" in line
    )
    told = [cell.strip() for cell in kernels.strip("|").split("|")][1:]
    values = [one["choices"]["stage2.kernel"] for one in ranked]
    assert told == [str(values[0]), *("=" if one == values[0] else str(one) for one in values[1:])]


def test_without_random_search_the_page_says_how_to_get_one(tmp_path):
    mine = write_search(tmp_path / "mine", rows_of(20, strategy="evolution", seed=4), SETTINGS)
    markdown, html = written(mine)
    assert "There is no random search to compare this one with" in html
    assert "expected" not in html.split("<body>")[1].split("How to read it")[0]
    baseline, report = commands(markdown)[:2]
    assert report == ["effkeras", "search", "report", str(mine), f"{mine}-random"]
    chosen = search_command._parser().parse_args(baseline[2:])
    assert (chosen.space, chosen.strategy, chosen.trials, chosen.seed) == ("digits-blocks", "random", 20, 5)
    assert (chosen.objective, chosen.cost, chosen.target) == ("mnas-hard", "macs", 1.5e6)
    assert (chosen.constraint, chosen.epochs, chosen.train_images) == (["parameters=500000"], 4, 500)
    assert str(chosen.out) == f"{mine}-random"
    assert chosen.config is None


def test_a_space_of_a_file_keeps_its_folder(searched):
    said = baseline_command(read_search(searched), {**SETTINGS, "source": "/my spaces/own.toml"})
    assert shlex.split(said)[:3] == ["effkeras", "search", "/my spaces/own.toml"]


def test_settings_that_no_option_sets_are_asked_for(searched):
    evaluation = {**SETTINGS["evaluation"], "settings": {"weight_decay": 0.5}}
    said = baseline_command(read_search(searched), {**SETTINGS, "evaluation": evaluation})
    assert "--config SETTINGS.toml" in said
    assert "--config" not in baseline_command(read_search(searched), SETTINGS)


def test_beside_random_search_the_page_compares(tmp_path):
    mine = write_search(tmp_path / "mine", rows_of(20, strategy="evolution", reward=0.7), SETTINGS)
    other = write_search(tmp_path / "other", rows_of(10, reward=0.8), SETTINGS)
    markdown, html = written(mine, other)
    assert "In 10 candidates mine found 0.7000; random search is expected to find 0.8000 in as many." in html
    assert "There is no random search" not in html
    assert "other found a higher reward, 0.8000" in html
    assert "do not compare" not in html
    assert "| other, trial 0 | 0.8000 |" in markdown


def test_searches_of_different_objectives_are_said_not_to_compare(tmp_path):
    mine = write_search(tmp_path / "mine", rows_of(3), SETTINGS)
    objective = {**SETTINGS["objective"], "target": 3e6}
    other = write_search(tmp_path / "other", rows_of(3), {**SETTINGS, "objective": objective, "seed": 5})
    _, html = written(mine, other)
    assert "The rewards of mine and other do not compare" in html
    assert "because these settings differ: objective.target." in html


def test_the_page_says_where_the_definitions_of_a_front_are(tmp_path):
    mine = write_search(tmp_path / "mine", rows_of(3), SETTINGS)
    (mine / "front").mkdir()
    markdown, _ = written(mine)
    assert f"networks on the front of mine are {mine}/front/TRIAL.toml." in markdown.replace("\\_", "_")


def test_searches_of_one_name_are_told_apart(tmp_path):
    folders = [tmp_path / name / "run" for name in ("a", "b")]
    for folder in folders:
        folder.parent.mkdir()
        write_search(folder, rows_of(2))
    markdown, _ = written(*folders)
    assert all(f"| {folder} | random | 2 |".replace("_", r"\_") in markdown for folder in folders)


def test_hostile_names_are_text(tmp_path):
    hostile = "<script>alert(1)</script>|`x` & $y$"
    renamed = {f"<b>{hostile}": "<i>", "stage|1": 3}
    rows = rows_of(20, space=hostile, strategy=hostile, choices=renamed, costs={r"<u>$\bad$": 1.5})
    for trial, one in enumerate(rows):
        one["choices"] = {
            **renamed,
            r"<b>$\bad$": trial % 4,
        }  # no formula for the chart of importances either
    rows.append(row(20, GENOMES[20], space=hostile, state="fail", reason=f"<img src=x>{hostile}\n# y"))
    settings = {**SETTINGS, "definition": {"kind": hostile, "summary": f"<s>{hostile}"}}
    markdown, html = written(write_search(tmp_path / "<em>mine $x$", rows, settings))
    shown = "".join(line for line in markdown.splitlines(True) if not line.startswith("    "))
    for page in (shown, html):
        assert not re.search(r"<(script>|img src=x|[bius]>|em>)", page)
    assert "\n# y" not in markdown
    assert "<h1>Search of &lt;script&gt;alert(1)&lt;/script&gt;|`x` &amp; $y$</h1>" in html
    assert "&lt;img src=x&gt;" in html


def test_reasons_that_differ_in_numbers_are_one(tmp_path):
    rows = rows_of(1) + [
        row(trial, GENOMES[trial], state="fail", reason=f"macs {trial},000 is over the limit of 3")
        for trial in range(8, 12)
    ]
    markdown, _ = written(write_search(tmp_path / "mine", rows))
    assert "| mine | macs 8,000 is over the limit of 3 | 4 |" in markdown


@pytest.mark.parametrize("best", [True, False])
def test_one_candidate_without_costs(tmp_path, best):
    mine = write_search(tmp_path / "mine", rows_of(1, costs={}), best=best)
    markdown, html = written(mine)
    images = {file.stem for file in (mine / "report").glob("*.png")}
    assert images == {"progress", *(["winner"] if best else [])}
    assert "The only candidate that succeeded" in html
    assert "Accuracy against cost" not in html
    assert any("train" in one for one in commands(markdown)) == best


def test_a_folder_that_a_search_wrote(tmp_path):
    """Failed and pruned trials, of a space that is not one of models."""
    job = fake_job(
        tmp_path / "out",
        trials=14,
        strategy=NamedStrategy("random"),
        objective=Objective("abs", "macs", 12.0),
        evaluation=Fake(crashes=(0,), steps=4),
        pruner="halving",
    )
    status = search(job, InProcess())
    assert status.failed > 0
    assert status.pruned > 0
    markdown, html = written(job.out)
    assert f"| out | random | 14 | {status.pruned} | {status.failed} | " in markdown
    assert f"{status.pruned} evaluations were ended early by the pruner." in html
    assert "Pruner halving" in words(html)
    assert (
        "ValueError: no stage can have 0 blocks" in html or "ValueError: no stage can have 1 blocks" in html
    )
    assert "accuracy - 0.1 x |multiply-adds / 12 - 1|" in html
    assert "Seed 0" in words(html)


@pytest.mark.parametrize(
    ("objective", "said"),
    [
        (Objective(), "accuracy"),
        (Objective("pareto"), "accuracy and multiply-adds, kept apart"),
        (Objective("mnas", "latency_ms", 2.5), "accuracy x (latency (ms) / 2.5)^-0.07"),
        (Objective("mnas-hard", "macs", 3e6, -0.5), "accuracy x min((multiply-adds / 3,000,000)^-0.5, 1)"),
    ],
)
def test_objectives_in_words(tmp_path, objective, said):
    assert objective_of(description(fake_job(tmp_path, objective=objective))) == said


def test_a_few_bad_candidates_do_not_flatten_the_others():
    axes = new_canvas(3, LIGHT).figure.subplots()
    _leave_out_the_worst(axes, [0.8, 0.8, 0.8, 0.82, 0.84, 0.85, 0.86, -5], LIGHT)
    assert axes.get_ylim()[0] > 0.7
    assert axes.get_ylim()[1] > 0.86
    assert "1 candidate lies below" in [text.get_text() for text in axes.texts]
    even = new_canvas(3, LIGHT).figure.subplots()
    _leave_out_the_worst(even, [0.1, 0.2, 0.3, 0.4], LIGHT)
    assert not even.texts


@pytest.mark.parametrize("package", ["matplotlib", "jinja2"])
def test_missing_package_names_the_extra(package, searched, monkeypatch, capsys):
    for name in [package, *(name for name in sys.modules if name.startswith(f"{package}."))]:
        monkeypatch.setitem(sys.modules, name, None)
    assert main([str(searched)]) == 2
    assert 'pip install "effkeras[report]"' in capsys.readouterr().err
    assert not (searched / "report").exists()


def test_what_cannot_be_written_leaves_the_old_page(searched, monkeypatch):
    page = write_report([searched])
    before = page.read_bytes()
    (searched / "best.toml").write_text("broken =")
    with pytest.raises(EffkerasError, match=r"best\.toml"):
        write_report([searched])
    assert page.read_bytes() == before
    assert not [file for file in page.parent.iterdir() if file.name.startswith(".")]


def test_help_loads_no_plotting():
    code = (
        "import sys; from effkeras.search.reporting.report import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "assert not {'matplotlib', 'jinja2', 'optuna', 'tensorflow'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--out" in done.stdout


def test_no_folder_at_all():
    with pytest.raises(EffkerasError, match="at least one search"):
        write_report([])


@pytest.mark.parametrize("what", ["empty", "other space", "none succeeded"])
def test_bad_input_is_one_line(what, searched, tmp_path, capsys):
    other = tmp_path / "other"
    other.mkdir()
    rows = {
        "empty": [],
        "other space": [row(0, (0,) * len(SPACE.genes), space="another")],
        "none succeeded": [row(0, (0,) * len(SPACE.genes), state="fail", reason="no")],
    }[what]
    results.append(other / "results.jsonl", rows)
    assert main([str(searched), str(other)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (searched / "report").exists()
