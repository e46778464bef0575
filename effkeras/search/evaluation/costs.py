"""Costs of a candidate: counted, measured on its .tflite file, or predicted from a table of blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from effkeras.definitions.definition import ModelSpec
from effkeras.graph.counting import cost
from effkeras.search.evaluation.settings import TABLE, ArtifactSettings, check_cost


def cost_of(
    spec: ModelSpec, names: Iterable[str], artifact: ArtifactSettings | None = None
) -> dict[str, float]:
    """The costs of a model, by name.

    Args:
        spec: the definition, with the classes and the input size of the data.
        names: any of "parameters" (trainable weights), "macs" (multiply-adds for one image), "bytes" (size
            of the .tflite), "latency_ms" (the median of single inferences with XNNPACK, measured on this
            machine) and "table:FILE" (milliseconds predicted by a table of the space, which
            `effkeras search table` writes). The first two and the last do not need TensorFlow.
        artifact: how the .tflite is made and timed. Its weights are random; size and latency do not
            depend on them.

    Raises:
        EffkerasError: an unknown cost, a definition that cannot be built, or a table that lacks one of its
            blocks.
    """
    chosen = artifact or ArtifactSettings()
    wanted = list(dict.fromkeys(names))
    for name in wanted:
        check_cost(name)
    found = {**_counted(spec, wanted), **_measured(spec, wanted, chosen)}
    found |= {name: _predicted(spec, name, chosen) for name in wanted if name.startswith(TABLE)}
    return {name: found[name] for name in wanted}


def _counted(spec: ModelSpec, wanted: list[str]) -> dict[str, float]:
    if not {"parameters", "macs"} & set(wanted):
        return {}
    parameters, macs = cost(spec)
    return {"parameters": float(parameters), "macs": float(macs)}


def _measured(spec: ModelSpec, wanted: list[str], chosen: ArtifactSettings) -> dict[str, float]:
    if not {"bytes", "latency_ms"} & set(wanted):
        return {}
    from effkeras.search.evaluation.artifacts import artifact_of, median_ms

    flatbuffer = artifact_of(spec, chosen.precision)
    measures: dict[str, Callable[[], float]] = {
        "bytes": lambda: float(len(flatbuffer)),
        "latency_ms": lambda: median_ms([flatbuffer], chosen)[0],
    }
    return {name: measure() for name, measure in measures.items() if name in wanted}


def _predicted(spec: ModelSpec, name: str, chosen: ArtifactSettings) -> float:
    from effkeras.search.evaluation.block_tables import predicted_by

    return predicted_by(spec, Path(name.removeprefix(TABLE)), chosen.threads)
