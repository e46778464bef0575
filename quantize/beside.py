"""What stands beside the result of a recipe: the model in float32, and plain int8 of the same model.

A recipe that trains has to be better than plain int8, or smaller; the table shows whether it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from effkeras.inference.compare import LEVEL, Drop
from effkeras.support.console import table, warn
from effkeras.support.tables import to_table
from quantize import formats
from quantize.accuracy import Accuracy, Interval
from quantize.recipes import Recipe
from quantize.specs import PtqSpec

if TYPE_CHECKING:
    from effkeras.data.records import LabelledData

FLOAT, PLAIN = "float32", "plain int8"

# From this number of training images on, and of images a class, a training can be judged: on 500 images of
# ImageNet's classes, one a class, prune50 and distill-qat made a network worse than plain int8.
FEW_IMAGES = 1000
FEW_PER_CLASS = 10


@dataclass(frozen=True, slots=True)
class Row:
    """One artifact: its size in bytes, its metric and the drop against the model, with their intervals."""

    artifact: str
    bytes: int
    value: float
    within: Interval | None = None
    drop: float = 0.0
    drop_within: Interval | None = None
    agreement: float | None = None


@dataclass(frozen=True, slots=True)
class Beside:
    """The rows of the model in float32, of plain int8 if it was made, and of the result.

    `worse` says that the result is worse than plain int8; else it is "".
    """

    metric: str
    measured_on: str
    rows: tuple[Row, ...]
    worse: str = ""

    def to_rows(self) -> list[dict[str, Any]]:
        """The rows as plain records."""
        return [to_table(row) for row in self.rows]

    def show(self) -> None:
        """Prints the table, and that the result is worse than plain int8."""
        rows = [_cells(row) for row in self.rows]
        agrees = any(row.agreement is not None for row in self.rows)
        columns = ["artifact", f"{self.metric} ({LEVEL:.0%})", f"drop ({LEVEL:.0%})", "agrees", "kB"]
        kept = [position for position, name in enumerate(columns) if agrees or name != "agrees"]
        shown = [[row[position] for position in kept] for row in rows]
        table(f"on {self.measured_on}", [columns[position] for position in kept], shown, fold_figures=False)
        if self.worse:
            warn(f"warning: {self.worse}")


def is_plain_int8(recipe: Recipe, ptq: PtqSpec) -> bool:
    """Whether a recipe's own result is plain int8."""
    return not recipe.trains and recipe.format.name == "int8" and ptq == PtqSpec()


def wants_plain_int8(recipe: Recipe) -> bool:
    """Whether plain int8 is of interest beside a recipe: not beside float weights that no step changed."""
    return recipe.trains or not recipe.format.weights.startswith("float")


def row_of(name: str, size: int, accuracy: Accuracy) -> Row:
    """The row of an artifact."""
    value = accuracy.artifact[accuracy.metric]
    drop, within = accuracy.drop, accuracy.artifact_within
    return Row(name, size, value, within, drop, accuracy.interval, accuracy.agreement)


def float_row(size: int, accuracy: Accuracy) -> Row:
    """The row of the model itself, as float32."""
    return Row(FLOAT, size, accuracy.model[accuracy.metric], accuracy.model_within)


def worse_than_plain(name: str, plain: Row, result: Row, between: Drop | None) -> str:
    """Says that a result is worse than plain int8, or may be; "" if it is not."""
    if result.value >= plain.value:
        return ""
    lost = f"{plain.value - result.value:.4f}"
    within = f" ({LEVEL:.0%}: {between.low:.4f} to {between.high:.4f})" if between else ""
    smaller = "" if result.bytes >= plain.bytes else f", and {1 - result.bytes / plain.bytes:.0%} smaller"
    sure = "is" if between is None or between.low > 0 else "may be"
    return f"{name} {sure} worse than plain int8 by {lost}{within}{smaller}; --recipe int8 makes that one"


def few_images(recipe: Recipe, train: LabelledData) -> str:
    """Says that a recipe trains on few images; "" if there are enough, or it does not train."""
    images, classes = len(train.records), max(1, len(train.labels))
    if not recipe.trains or (images >= FEW_IMAGES and images >= FEW_PER_CLASS * classes):
        return ""
    return (
        f"{recipe.name} trains on {images} images of {classes} classes: on so few, plain int8 may be better; "
        "the table at the end decides"
    )


def slow_int4(recipe: Recipe, convolves: bool) -> str:
    """Says that int4 is slow on CPUs; "" for other weights, or a network without convolutions."""
    if recipe.format.weights != "int4" or not convolves:
        return ""
    return (
        f"{recipe.format.name} is slow on CPUs, several times the latency of int8: XNNPACK unpacks the int4 "
        "weights of convolutions; `effkeras export bench` measures it"
    )


def plain_format() -> formats.Format:
    """The format of plain int8."""
    return formats.find("int8")


def _cells(row: Row) -> list[str]:
    agrees = "" if row.agreement is None else f"{row.agreement:.1%}"
    drop = "" if row.artifact == FLOAT else _with_interval(row.drop, row.drop_within)
    return [row.artifact, _with_interval(row.value, row.within), drop, agrees, f"{row.bytes / 1000:,.0f}"]


def _with_interval(value: float, within: Interval | None) -> str:
    return f"{value:.4f}" + (f" ({within[0]:.3f}..{within[1]:.3f})" if within else "")
