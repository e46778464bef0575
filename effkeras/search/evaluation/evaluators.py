"""Makes evaluators from settings, in any worker process."""

from __future__ import annotations

from dataclasses import dataclass

from effkeras.search.evaluation.settings import EvaluationData, EvaluationSettings, Evaluator, checked
from effkeras.search.spaces.reading import ModelSpace
from effkeras.support.console import quiet


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The settings of an evaluation as plain data, pickled for workers; each worker calls it once."""

    settings: EvaluationSettings
    data: EvaluationData
    space: ModelSpace

    def __call__(self) -> Evaluator:
        """Makes the evaluator of this process; see `make_evaluator`."""
        return make_evaluator(self.settings, self.data, self.space)


def make_evaluator(settings: EvaluationSettings, data: EvaluationData, space: ModelSpace) -> Evaluator:
    """Makes an evaluator; loads TensorFlow and lists the images, but reads them with the first candidate.

    Raises EffkerasError for invalid settings, and for data without the splits train and val.
    """
    settings = checked(settings)
    with quiet():
        from effkeras.search.evaluation.images import SearchImages, open_splits

    masks = space.base.segments
    splits = open_splits(data.root, data.options(masks=masks))
    images = SearchImages(splits, settings.train_images, settings.validation_images)
    if settings.kind == "train":
        from effkeras.search.evaluation.training import ShortTraining

        return ShortTraining(space, images, settings)
    from effkeras.search.evaluation.proxies import ProxyEvaluator

    return ProxyEvaluator(space, images, settings)
