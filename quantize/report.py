"""Step reports: what a step did to each layer; printed, stored, and returned with the result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from effkeras.support.console import note, table
from effkeras.support.errors import EffkerasError
from effkeras.support.tables import to_table

if TYPE_CHECKING:
    import keras

What = Literal["done", "skipped"]
_WHOLE = 10_000  # from this value on, figures are printed without decimals
_NAMED = 3  # the number of layers to print for each reason to skip


@dataclass(frozen=True, slots=True)
class LayerReport:
    """What a step did to one layer.

    `kind` is the layer's class, such as Conv2D, or the operator of an artifact, such as CONV_2D. `why` is the
    reason for a skipped layer, or a detail of the change, or empty. `error` is the error that the step caused
    in the layer, as the report's `error_is` defines it; None if unknown.
    """

    name: str
    kind: str
    what: What
    why: str = ""
    error: float | None = None


@dataclass(frozen=True, slots=True)
class StepReport:
    """What a step did to a model.

    `figures` are numbers of the whole step, such as the resulting sparsity.
    """

    step: str
    layers: tuple[LayerReport, ...]
    error_is: str = ""
    figures: Mapping[str, float] = field(default_factory=dict)

    @property
    def done(self) -> tuple[LayerReport, ...]:
        """The layers that were changed."""
        return tuple(layer for layer in self.layers if layer.what == "done")

    @property
    def skipped(self) -> tuple[LayerReport, ...]:
        """The layers that were skipped, each with its reason."""
        return tuple(layer for layer in self.layers if layer.what == "skipped")

    def check_strict(self, allowed: tuple[str, ...] = ()) -> None:
        """Raises EffkerasError when a layer was skipped for a reason that is not in `allowed`."""
        bad = next((layer for layer in self.skipped if layer.why not in allowed), None)
        if bad is not None:
            raise EffkerasError(
                f"{self.step}: {bad.name} ({bad.kind}) was skipped: {bad.why}; "
                "leave out --strict to accept that"
            )

    def to_row(self) -> dict[str, Any]:
        """The report as a plain record."""
        return {
            "step": self.step,
            "error_is": self.error_is,
            "figures": dict(self.figures),
            "layers": [to_table(layer) for layer in self.layers],
        }

    def _left_alone(self) -> dict[tuple[str, str], list[str]]:
        """The names of skipped layers, by kind and reason."""
        found: dict[tuple[str, str], list[str]] = {}
        for one in self.skipped:
            found.setdefault((one.kind, one.why), []).append(one.name)
        return found

    def show(self, most: int = 12) -> None:
        """Prints a summary, the skipped layers with their reasons, and the `most` largest errors."""
        figures = ", ".join(f"{name} {_amount(value)}" for name, value in self.figures.items())
        note(
            f"{self.step}: {len(self.done)} layers done, {len(self.skipped)} skipped"
            + (figures and f"; {figures}")
        )
        for (kind, why), names in self._left_alone().items():
            others = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            note(f"  skipped {kind} {', '.join(names[:_NAMED])}{others}: {why}")
        worst = sorted((one for one in self.done if one.error is not None), key=_error, reverse=True)[:most]
        if worst:
            rows = [(one.name, one.kind, f"{one.error:.4g}") for one in worst]
            table(f"{self.step}: largest errors", ("layer", "kind", self.error_is or "error"), rows)


@dataclass(frozen=True, eq=False, slots=True)
class Compressed:
    """The result of a step: a new model and the report. The original model is not changed."""

    model: keras.Model
    report: StepReport


def _amount(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= _WHOLE else f"{value:.4g}"


def _error(layer: LayerReport) -> float:
    return layer.error or 0.0
