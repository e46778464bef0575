"""What a step of a recipe is, and the registry of all steps.

A module of this package adds a step; nothing else has to know of it. Modules here are imported for `--help`,
so they load Keras and the algorithms only inside functions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from effkeras.support.errors import EffkerasError
from effkeras.support.registry import Registry
from effkeras.support.tables import Table
from quantize.formats import Format
from quantize.report import Compressed, StepReport

if TYPE_CHECKING:
    import keras
    import numpy as np

    from effkeras.data.records import LabelledData
    from effkeras.graph.rewrite import Graph
    from effkeras.training.callbacks import Hook
    from quantize.magnitude.selection import Selection
    from quantize.specs import PtqSpec

TFMOT = "tensorflow-model-optimization"

Spec = TypeVar("Spec")
Wrap = Callable[["keras.Model"], "keras.Model"]
Begin = Callable[["keras.Model"], Compressed]
# The model that a stage began with, as `begin` left it, and after its training.
Finish = Callable[[Compressed, "keras.Model"], Compressed]


def _as_trained(begun: Compressed, trained: keras.Model) -> Compressed:
    return Compressed(trained, begun.report)


def _no_hooks() -> tuple[Hook, ...]:
    return ()


@dataclass(frozen=True, slots=True)
class Word:
    """A word of recipes' names.

    `name` is how help spells it, such as "pruneN"; `pattern` is a regular expression, whose groups `options`
    makes options of the step's table from.
    """

    name: str
    meaning: str
    options: Callable[..., Table]
    pattern: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "pattern", self.pattern or self.name)


@dataclass(frozen=True, eq=False, slots=True)
class Stage:
    """A change of the model with one training after it; most steps have one.

    `begin` changes the model; the result is then trained with `hooks`; `finish` makes what the stage leaves
    behind, and gives the report. None of them changes the model that it is given. `spec` is what the recipe
    says of it. With --strict, layers may be skipped for the reasons in `allowed` only, where it is not None.
    """

    name: str
    spec: Any
    begin: Begin
    hooks: Callable[[], tuple[Hook, ...]] = _no_hooks
    finish: Finish = _as_trained
    allowed: tuple[str, ...] | None = None


@dataclass(frozen=True, eq=False, slots=True)
class Context:
    """What stages may use.

    `original` is the model that compression started from, `train` the images to train on. `alone` says that
    the recipe has no other step.
    """

    original: keras.Model
    train: LabelledData
    seed: int = 0
    alone: bool = True

    def probe(self, model: keras.Model) -> np.ndarray:
        """Some training images as a model takes them: float32 (n, H, W, 3)."""
        from effkeras.layers.normalize import spec_of
        from quantize.distillation import probe

        return probe(self.train, spec_of(model), self.seed)


class RecipeStep(ABC, Generic[Spec]):
    """A step of a recipe, registered under the name of its table in TOML.

    Attributes:
        spec_class: the frozen dataclass that the table is read into; it needs a default for every field.
        order: its place among the steps, the lowest first.
        words: the words of recipes' names that set its options.
        trains_ranges: whether its training finds the ranges that the artifact is quantized with.
    """

    spec_class: ClassVar[type]
    order: ClassVar[int]
    words: ClassVar[tuple[Word, ...]] = ()
    trains_ranges: ClassVar[bool] = False

    def __init__(self, name: str, spec: Spec) -> None:
        self.name = name
        self.spec = spec

    @classmethod
    def defaults(cls, recipe: Table) -> Table:
        """Options of the step that other tables of a recipe ask for, where it says nothing of them."""
        return {}

    def problems(self, format_: Format, ptq: PtqSpec) -> Iterable[str]:
        """Why a recipe with this format makes no sense."""
        return ()

    def tfmot_problem(self, io: str) -> str:
        """Why tensorflow-model-optimization cannot do it, to follow the tool's name; "" if it can."""
        return f"has no step {self.name}; leave out --backend"

    def wrap(self, original: keras.Model) -> Wrap | None:
        """What wraps the model in every training of the recipe; None for nothing."""
        return None

    @abstractmethod
    def stages(self, context: Context) -> Iterator[Stage]:
        """The changes of the model, in order."""


class TfmotStep(RecipeStep[Spec]):
    """A step that tensorflow-model-optimization can do too.

    Attributes:
        tfmot_verb: what it does to a model, for messages.
        tfmot_whole: whether it also takes layers without kernels.
    """

    tfmot_verb: ClassVar[str]
    tfmot_whole: ClassVar[bool] = False

    def tfmot_problem(self, io: str) -> str:
        """The tool does the step."""
        return ""

    def tfmot_options(self) -> Table:
        """Options for the worker beside the spec; EffkerasError for a spec that the tool cannot follow."""
        return {}

    @abstractmethod
    def tfmot_kernels(self, graph: Graph) -> Selection:
        """The kernels that the tool changes; EffkerasError for a spec that the tool cannot follow."""

    def tfmot_report(self, before: keras.Model, after: keras.Model) -> StepReport | None:
        """The step's own report on what the tool did; None for the report of every step."""
        return None


def check_no_depthwise(depthwise: bool) -> None:
    """Raises EffkerasError for depthwise kernels, which the tool would skip silently."""
    if depthwise:
        raise EffkerasError(f"{TFMOT} neither prunes nor clusters depthwise kernels; set depthwise to false")


def unchanged(name: str) -> Begin:
    """The `begin` of a stage that only trains."""
    return lambda model: Compressed(model, StepReport(name, ()))


STEPS: Registry[type[RecipeStep[Any]]] = Registry("step", "quantize.steps")


def steps_in_order() -> dict[str, type[RecipeStep[Any]]]:
    """All steps by name, in the order in which a recipe does them."""
    return dict(sorted(STEPS.entries().items(), key=lambda entry: entry[1].order))
