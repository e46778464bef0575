"""Evaluators by settings: what a worker, in whatever process, makes its evaluator with."""

from __future__ import annotations

from dataclasses import dataclass

from effkeras.errors import EffkerasError
from effkeras.quiet import quiet
from effkeras.search.evaluation.protocol import Evaluator
from effkeras.search.evaluation.settings import EvaluationData, EvaluationSettings, checked
from effkeras.search.spaces.protocol import ModelSpace


@dataclass(frozen=True, slots=True)
class Evaluation:
    """An evaluation to be: plain data, pickled for workers, each of which calls it once."""

    settings: EvaluationSettings
    data: EvaluationData
    space: ModelSpace

    def __call__(self) -> Evaluator:
        """The evaluator of this process; see `make_evaluator`."""
        return make_evaluator(self.settings, self.data, self.space)


def check_kind(settings: EvaluationSettings, space: ModelSpace) -> None:
    """Raises EffkerasError for a supernet of networks that cannot share weights."""
    from effkeras.search.evaluation.block_tables import is_of_blocks

    if settings.kind == "supernet" and not is_of_blocks(space.base):
        raise EffkerasError(
            f"{space.name} has no classifiers of MBConv blocks, which alone a supernet is made of; "
            "evaluate by train or by a proxy"
        )


def make_evaluator(settings: EvaluationSettings, data: EvaluationData, space: ModelSpace) -> Evaluator:
    """Makes an evaluator; loads TensorFlow and lists the pictures, which are read at the first candidate.

    Raises EffkerasError for settings that make no sense, also in this space, and data without the splits
    train and val.
    """
    settings = checked(settings)
    check_kind(settings, space)
    with quiet():
        from effkeras.search.evaluation.pictures import Pictures, open_splits

    masks = space.base.segments
    splits = open_splits(data.root, skip_bad=data.skip_bad, masks=masks)
    pictures = Pictures(splits, settings.train_pictures, settings.validation_pictures)
    if settings.kind == "train":
        from effkeras.search.evaluation.training import ShortTraining

        return ShortTraining(space, pictures, settings)
    if settings.kind == "supernet":
        from effkeras.search.evaluation.supernet import SupernetPaths

        return SupernetPaths(space, pictures, settings, data.folder)
    from effkeras.search.evaluation.probing import Probing

    return Probing(space, pictures, settings)
