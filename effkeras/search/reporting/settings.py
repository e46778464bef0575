"""Reads `search.toml` for reports: facts, differences of searches, and the command of a baseline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from effkeras.search.objectives import EXPONENTS
from effkeras.search.reporting.searches import Search
from effkeras.search.reporting.tables import amount, command, cost_name
from effkeras.support.tables import Table, read_toml, to_table

FILE = "search.toml"
# Keys in which comparable searches may differ.
_OWN = ("schema", "seed", "source", "strategy.", "definition.")
_OPTIONS = {
    "kind": "--evaluation",
    "epochs": "--epochs",
    "batch": "--batch",
    "learning_rate": "--learning-rate",
    "patience": "--patience",
    "train_images": "--train-images",
    "validation_images": "--validation-images",
}


def settings_of(search: Search) -> Table:
    """The table of search.toml; {} when the folder has none."""
    file = search.folder / FILE
    return read_toml(file) if file.is_file() else {}


def facts_of(search: Search, settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Names and values of the known facts about a search."""
    definition = _inner(settings, "definition")
    yield "Space", search.space
    if "kind" in definition:
        yield "Kind of space", str(definition["kind"])
    yield "Genes", str(len(search.points[0].choices))
    yield "Strategy", _with_options(search.strategy, _inner(settings, "strategy"))
    if settings:
        yield "Objective", objective_of(settings)
        yield from _limits(settings)
    yield "Seed", str(search.seed)
    if settings.get("pruner", "none") != "none":
        yield "Pruner", str(settings["pruner"])
    yield from _evaluation_facts(settings)
    if search.machines:
        yield "Evaluated on", "; ".join(search.machines)
    yield "Folder", str(search.folder)


def summary_of(settings: Mapping[str, Any]) -> str:
    """The space's summary; "" when it has none."""
    return str(_inner(settings, "definition").get("summary", ""))


def data_of(settings: Mapping[str, Any]) -> str:
    """The folder of the data set, or a placeholder for it."""
    return str(_inner(settings, "evaluation", "data").get("root", "DIR"))


def proxy_of(settings: Mapping[str, Any]) -> str:
    """The name of the proxy that replaces the accuracy; "" when there is none."""
    kind = str(_inner(settings, "evaluation", "settings").get("kind", ""))
    return kind.removeprefix("proxy:") if kind.startswith("proxy:") else ""


def cost_of_objective(settings: Mapping[str, Any]) -> str:
    """The name of the cost in the objective."""
    return str(_inner(settings, "objective").get("cost", "macs"))


def target_of(settings: Mapping[str, Any], cost: str) -> float | None:
    """The target of a cost; None if the objective does not weigh it."""
    return _inner(settings, "objective").get("target") if cost == cost_of_objective(settings) else None


def objective_of(settings: Mapping[str, Any]) -> str:
    """The objective as a formula."""
    objective = _inner(settings, "objective")
    kind, cost = str(objective.get("kind", "")), cost_name(str(objective.get("cost", "")))
    if kind == "pareto":
        return f"accuracy and {cost}, kept apart"
    if kind not in EXPONENTS or "target" not in objective:
        return kind or "unknown"
    exponent = objective.get("exponent", EXPONENTS[kind])
    share = f"{cost} / {amount(objective['target'])}"
    return {
        "mnas": f"accuracy x ({share})^{exponent:g}",
        "mnas-hard": f"accuracy x min(({share})^{exponent:g}, 1)",
        "abs": f"accuracy - {-exponent:g} x |{share} - 1|",
    }[kind]


def differences(searches: Sequence[Search]) -> list[str]:
    """Differences that make rewards incomparable, one line for each search that differs from the first.

    Searches without a search.toml are ignored.
    """
    from effkeras.search.folder import flat

    known = [(one.name, flat(settings)) for one in searches if (settings := settings_of(one))]
    lines = []
    for name, table in known[1:]:
        first_name, first = known[0]
        keys = [key for key in dict.fromkeys([*first, *table]) if not key.startswith(_OWN)]
        differ = [key for key in keys if first.get(key) != table.get(key)]
        if differ:
            lines.append(
                f"The rewards of {first_name} and {name} do not compare, because these settings differ: "
                f"{', '.join(differ)}."
            )
    return lines


def baseline_command(search: Search, settings: Mapping[str, Any]) -> str:
    """The command of a random search for comparison with this one."""
    words = [
        "effkeras",
        "search",
        _source(search, settings),
        "--data",
        data_of(settings),
        "--strategy",
        "random",
    ]
    words += ["--trials", str(search.candidates), "--seed", str(search.seed + 1)]
    words += ["--out", baseline_folder(search), *_objective_options(settings), *_evaluation_options(settings)]
    return command(words)


def _source(search: Search, settings: Mapping[str, Any]) -> str:
    """The name or file of the space; only the file's name if its folder is unknown."""
    from effkeras.search.spaces.reading import space_names

    if "source" in settings:
        return str(settings["source"])
    return search.space if search.space in space_names() else f"{search.space}.toml"


def baseline_folder(search: Search) -> str:
    """The output folder of the random search."""
    return f"{search.folder}-random"


def _evaluation_facts(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    evaluation = _inner(settings, "evaluation", "settings")
    if evaluation:
        yield "Evaluation", _evaluation(evaluation)
        many = {name: evaluation.get(f"{name}_images", 0) for name in ("train", "validation")}
        if any(many.values()):
            used = (f"{count or 'all'} of {name}" for name, count in many.items())
            yield "Images used", ", ".join(used)
    if "root" in _inner(settings, "evaluation", "data"):
        yield "Data", data_of(settings)


def _evaluation(settings: Mapping[str, Any]) -> str:
    kind = str(settings.get("kind", "train"))
    if proxy := kind.removeprefix("proxy:") if kind.startswith("proxy:") else "":
        return f"proxy {proxy}, without training"
    if kind == "supernet":
        return "one training of all networks together, which this version no longer offers"
    return f"a training of {settings.get('epochs', '?')} epochs, batch {settings.get('batch', '?')}"


def _limits(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    limits = _inner(settings, "objective", "limits")
    if limits:
        yield "Limits", ", ".join(f"{cost_name(name)} <= {amount(most)}" for name, most in limits.items())


def _objective_options(settings: Mapping[str, Any]) -> list[str]:
    objective = _inner(settings, "objective")
    words = ["--objective", str(objective["kind"])] if "kind" in objective else []
    for name in ("cost", "target", "exponent"):
        if name in objective:
            words += [f"--{name}", _number(objective[name])]
    for name, most in _inner(objective, "limits").items():
        words += ["--constraint", f"{name}={_number(most)}"]
    return words


def _evaluation_options(settings: Mapping[str, Any]) -> list[str]:
    """Options for the settings, and a placeholder for --config if some settings have no option."""
    from effkeras.search.evaluation.settings import EvaluationSettings

    usual = to_table(EvaluationSettings())
    given = _without_types(_inner(settings, "evaluation", "settings"))
    others = [name for name in given if name not in _OPTIONS and name != "costs"]
    words = ["--config", "SETTINGS.toml"] if any(given[name] != usual.get(name) for name in others) else []
    for name, option in _OPTIONS.items():
        if name in given and given[name] != usual[name]:
            words += [option, _number(given[name])]
    if settings.get("pruner", "none") != "none":
        words += ["--pruner", str(settings["pruner"])]
    data = _inner(settings, "evaluation", "data")
    words += ["--skip-bad"] if data.get("skip_bad") else []
    return words + (["--voc-one-based"] if data.get("one_based") else [])


def _with_options(strategy: str, table: Mapping[str, Any]) -> str:
    options = [f"{name} {value}" for name, value in table.items() if name != "name"]
    return f"{strategy} ({', '.join(options)})" if options else strategy


def _inner(table: Mapping[str, Any], *path: str) -> Mapping[str, Any]:
    """The table at a path; {} when there is none."""
    for name in path:
        inner = table.get(name)
        table = inner if isinstance(inner, Mapping) else {}
    return table


def _without_types(value: Any) -> Any:
    """A table without the names of its parts' classes."""
    if not isinstance(value, Mapping):
        return value
    return {name: _without_types(item) for name, item in value.items() if name != "is"}


def _number(value: Any) -> str:
    return f"{value:.12g}" if isinstance(value, float) else str(value)
