"""The content of a report on searches: its sentences and sections."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from effkeras.search.reporting import charts
from effkeras.search.reporting.charts import draw_network
from effkeras.search.reporting.searches import MIN_CANDIDATES, Search, best_so_far, expected_best, importances
from effkeras.search.reporting.settings import (
    baseline_command,
    baseline_folder,
    cost_of_objective,
    data_of,
    differences,
    facts_of,
    proxy_of,
    settings_of,
    summary_of,
    target_of,
)
from effkeras.search.reporting.tables import (
    MOST,
    alike_table,
    amount,
    best_table,
    choice_table,
    command,
    common_costs,
    cost_name,
    failure_table,
    search_table,
    slug,
)
from effkeras.support.pages import Chart, Page, Section, drawn

BEST, FRONT = "best.toml", "front"
RANDOM = "random"
READING = (
    "The reward is what the objective makes of accuracy and cost. Accuracy is that of the short evaluation, "
    "on validation images, and not what a full training reaches.",
    "The best of many candidates owes some of its figure to luck: train it in full, and judge it on images "
    "that the search has not seen.",
    "One search of a strategy says little about the strategy; searches from other seeds may end elsewhere.",
    "Candidates that failed or were pruned have no point in the images and are not counted there.",
    "Importance is PED-ANOVA's (arXiv:2304.10255): how far the choices of the best tenth of the candidates "
    "are from those of all. It says what mattered among the candidates that this search tried.",
)


@dataclass(frozen=True, slots=True)
class _Subject:
    """The data of a page: searches, the first one's search.toml, common costs, and importances of genes."""

    searches: Sequence[Search]
    settings: dict[str, Any]
    costs: Sequence[str]
    shares: dict[str, float]

    @property
    def first(self) -> Search:
        return self.searches[0]


def page_of(searches: Sequence[Search]) -> Page:
    """The page on searches of one space; it shows genes and best network of the first search.

    Raises EffkerasError for an invalid search.toml or best.toml, and without matplotlib or Optuna.
    """
    settings = settings_of(searches[0])
    costs = common_costs(searches, cost_of_objective(settings))
    subject = _Subject(searches, settings, costs, importances(searches[0]))
    proxy = proxy_of(settings)
    sentence = f"What is called accuracy here is the score of the proxy {proxy}, which needs no training."
    return Page(
        title=f"Search of {searches[0].space}",
        intro=_intro(subject),
        highlights=tuple(_highlights(subject)),
        sections=tuple(_sections(subject)),
        reading=(*([sentence] if proxy else []), *READING),
    )


def _intro(subject: _Subject) -> str:
    names = [f"{one.candidates} candidates with {one.strategy}" for one in subject.searches]
    summary = summary_of(subject.settings)
    return f"{summary}: {', '.join(names)}." if summary else f"{', '.join(names)}."


def _highlights(subject: _Subject) -> Iterator[tuple[str, str]]:
    best = subject.first.best
    whose = "Best reward" if len(subject.searches) == 1 else f"Best reward of {subject.first.name}"
    yield whose, f"{best.reward:.4f}"
    yield "Its accuracy", f"{best.accuracy:.4f}"
    for cost in subject.costs:
        yield f"Its {cost_name(cost)}", amount(best.costs[cost])
    yield "Candidates", str(subject.first.candidates)
    if (expected := _expected(subject)) is not None:
        yield "Random search, expected", f"{expected[1]:.4f}"


def _sections(subject: _Subject) -> Iterator[Section]:
    yield Section(
        "What was searched",
        facts=tuple(facts_of(subject.first, subject.settings)),
        warns=tuple(differences(subject.searches)),
        tables=(search_table(subject.searches, subject.costs),),
    )
    yield _progress(subject)
    if subject.costs:
        yield _costs(subject)
    yield _genes(subject)
    yield _winner(subject)
    count = min(MOST, sum(len(one.points) for one in subject.searches))
    yield Section(
        "The best candidates" if count > 1 else "The only candidate that succeeded",
        tables=(best_table(subject.searches, subject.costs), alike_table(subject.searches)),
    )
    yield _failures(subject)


def _progress(subject: _Subject) -> Section:
    about = "Reward of every candidate, and the best so far, by the number of candidates evaluated"
    chart = drawn("progress", about, partial(charts.progress_chart, subject.searches))
    title = "Reward over candidates, against random search"
    if any(one.strategy == RANDOM for one in subject.searches):
        return Section(title, charts=(chart,), says=tuple(_comparison(subject)))
    first = subject.first
    says = (
        "There is no random search to compare this one with, so nothing here says what the strategy is "
        "worth. These commands make one of as many candidates, and draw both:",
    )
    report = command(["effkeras", "search", "report", first.folder, baseline_folder(first)])
    return Section(title, says, charts=(chart,), commands=(baseline_command(first, subject.settings), report))


def _comparison(subject: _Subject) -> Iterator[str]:
    yield (
        "Dots are candidates, lines the best so far. The line of a random search is what it is expected to "
        "find, over all orders in which its candidates might have come."
    )
    if (expected := _expected(subject)) is not None:
        count, reward = expected
        found = best_so_far([point.reward for point in subject.first.points])[count - 1]
        yield (
            f"In {count} candidates {subject.first.name} found {found:.4f}; random search is expected to "
            f"find {reward:.4f} in as many."
        )


def _expected(subject: _Subject) -> tuple[int, float] | None:
    """The number of candidates to compare, and the expected best reward of random search with as many."""
    drawn_by = next((one for one in subject.searches if one.strategy == RANDOM), None)
    if drawn_by is None or subject.first.strategy == RANDOM:
        return None
    count = min(len(drawn_by.points), len(subject.first.points))
    return count, float(expected_best([point.reward for point in drawn_by.points])[count - 1])


def _costs(subject: _Subject) -> Section:
    return Section(
        "Accuracy against cost",
        says=(
            "Filled and joined are the candidates that no other of their search beats in both. The star is "
            "the highest reward of each search.",
            *_fronts(subject),
        ),
        charts=tuple(_pareto(subject, cost) for cost in subject.costs),
    )


def _fronts(subject: _Subject) -> Iterator[str]:
    for one in subject.searches:
        if (folder := one.folder / FRONT).is_dir():
            yield f"The definitions of the networks on the front of {one.name} are {folder}/TRIAL.toml."


def _pareto(subject: _Subject, cost: str) -> Chart:
    about = f"Accuracy against {cost_name(cost)} of every candidate"
    draw = partial(charts.pareto_chart, subject.searches, cost, target=target_of(subject.settings, cost))
    return drawn(f"pareto-{slug(cost)}", about, draw)


def _genes(subject: _Subject) -> Section:
    title = "What the reward depended on"
    if not subject.shares:
        done = len(subject.first.points)
        sentence = (
            f"A ranking of the genes would be chance: it takes {MIN_CANDIDATES} candidates that succeed "
            f"({done} did), rewards that differ, and a gene of which several choices were tried."
        )
        return Section(title, says=(sentence,))
    about = "Importance of each gene, in per cent"
    first = next(iter(subject.shares))
    sentence = f"Of the genes of {subject.first.name}, {first} set the best candidates apart the most."
    chart = drawn("importance", about, partial(charts.importance_chart, subject.shares))
    return Section(title, says=(sentence,), charts=(chart,))


def _winner(subject: _Subject) -> Section:
    first, file = subject.first, subject.first.folder / BEST
    is_there = file.is_file()
    sentence = f"Trial {first.best.trial} of {first.name}, of reward {first.best.reward:.4f}."
    return Section(
        "The winner",
        says=(sentence + (" To train it in full, and to judge it on the test images:" if is_there else ""),),
        warns=tuple(_better(subject)),
        facts=tuple(_facts(file)) if is_there else (),
        charts=(_network(file, first.best.trial),) if is_there else (),
        tables=(choice_table(first, subject.shares),),
        commands=tuple(_next(subject)) if is_there else (),
    )


def _facts(file: Path) -> Iterator[tuple[str, str]]:
    from effkeras.definitions.zoo import spec

    winner = spec(file)
    height, width = winner.input.size
    yield "Images", f"{height} x {width} px"
    yield "Classes", str(winner.classes)


def _network(file: Path, trial: int) -> Chart:
    from effkeras.definitions.zoo import spec

    about = "The winner's parts, with the share of each in the multiply-adds"
    return drawn("winner", about, partial(draw_network, spec(file), f"Trial {trial}"))


def _next(subject: _Subject) -> Iterator[str]:
    folder, data = subject.first.folder, data_of(subject.settings)
    run = folder / "winner"
    yield command(["effkeras", "train", folder / BEST, "--data", data, "--out", run])
    yield command(["effkeras", "eval", run, "--data", data])


def _better(subject: _Subject) -> Iterator[str]:
    for other in subject.searches[1:]:
        if other.best.reward > subject.first.best.reward:
            yield (
                f"{other.name} found a higher reward, {other.best.reward:.4f}: its winner is "
                f"{other.folder / BEST}; name its folder first to see it here."
            )


def _failures(subject: _Subject) -> Section:
    table = failure_table(subject.searches)
    pruned = sum(one.pruned for one in subject.searches)
    sentence = f"{pruned} evaluations were ended early by the pruner." if pruned else ""
    if not table.rows:
        return Section("Failures", says=tuple(filter(None, ["No candidate failed.", sentence])))
    return Section("Failures", says=(sentence,) if sentence else (), tables=(table,))
