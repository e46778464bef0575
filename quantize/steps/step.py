"""The base class of a recipe's steps, and their registry.

To add a step, add a module to this package; no other module changes. The modules are imported for `--help`,
so they import Keras and the algorithms only inside functions.
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
# Takes the result of `begin`, and the same model after its training.
Finish = Callable[[Compressed, "keras.Model"], Compressed]


def _as_trained(begun: Compressed, trained: keras.Model) -> Compressed:
    return Compressed(trained, begun.report)


def _no_hooks() -> tuple[Hook, ...]:
    return ()


@dataclass(frozen=True, slots=True)
class Word:
    """A word in a recipe's name.

    `name` is its spelling in help, such as "pruneN"; `pattern` is a regular expression. `options` takes its
    groups and returns options of the step's table.
    """

    name: str
    meaning: str
    options: Callable[..., Table]
    pattern: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "pattern", self.pattern or self.name)


@dataclass(frozen=True, eq=False, slots=True)
class Stage:
    """A change of the model, followed by one training; most steps have one stage.

    `begin` returns a changed model, which is then trained with `hooks`; `finish` returns the stage's result
    and report. None of them changes its input model. With --strict, layers may only be skipped for the
    reasons in `allowed`; None allows any reason. `by_tfmot` is the step that tensorflow-model-optimization
    can run in place of this stage; None where it cannot.
    """

    name: str
    begin: Begin
    hooks: Callable[[], tuple[Hook, ...]] = _no_hooks
    finish: Finish = _as_trained
    allowed: tuple[str, ...] | None = None
    by_tfmot: TfmotStep[Any] | None = None


@dataclass(frozen=True, eq=False, slots=True)
class Context:
    """The inputs that stages may use.

    `original` is the uncompressed model, `train` the images to train on. `alone` tells that the recipe has
    no other step.
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
        order: its position among the steps; lower runs first.
        words: the words in a recipe's name that set its options.
        trains_ranges: whether its training determines the activation ranges of the artifact.
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
        """Default options of the step that depend on the recipe's other tables."""
        return {}

    def problems(self, format_: Format, ptq: PtqSpec) -> Iterable[str]:
        """Why the step's options are invalid, or do not fit the format or `ptq`."""
        return ()

    def tfmot_problem(self, io: str) -> str:
        """Why tensorflow-model-optimization cannot do the step, to print after its name; "" if it can."""
        return f"has no step {self.name}; leave out --backend"

    def wrap(self, original: keras.Model) -> Wrap | None:
        """The function that wraps the model in all training of the recipe; None for no wrapper."""
        return None

    @abstractmethod
    def stages(self, context: Context) -> Iterator[Stage]:
        """The changes of the model, in order."""


class TfmotStep(RecipeStep[Spec]):
    """A step that tensorflow-model-optimization (the tool) supports too.

    Attributes:
        tfmot_verb: the verb for the step in messages.
        tfmot_whole: whether the tool also changes layers without kernels.
    """

    tfmot_verb: ClassVar[str]
    tfmot_whole: ClassVar[bool] = False

    def tfmot_problem(self, io: str) -> str:
        """The tool supports the step."""
        return ""

    def tfmot_options(self) -> Table:
        """The worker's options besides the spec; EffkerasError for a spec that the tool does not support."""
        return {}

    @abstractmethod
    def tfmot_kernels(self, graph: Graph) -> Selection:
        """The kernels that the tool changes; EffkerasError for a spec that the tool does not support."""

    def tfmot_report(self, before: keras.Model, after: keras.Model) -> StepReport | None:
        """The step's own report of the tool's result; None for the general report."""
        return None


def check_no_depthwise(depthwise: bool) -> None:
    """Raises EffkerasError if depthwise kernels are included: the tool would skip them silently."""
    if depthwise:
        raise EffkerasError(f"{TFMOT} neither prunes nor clusters depthwise kernels; set depthwise to false")


def unchanged(name: str) -> Begin:
    """The `begin` of a stage that only trains."""
    return lambda model: Compressed(model, StepReport(name, ()))


STEPS: Registry[type[RecipeStep[Any]]] = Registry("step", "quantize.steps")


def steps_in_order() -> dict[str, type[RecipeStep[Any]]]:
    """All steps by name, in the order in which a recipe runs them."""
    return dict(sorted(STEPS.entries().items(), key=lambda entry: entry[1].order))
