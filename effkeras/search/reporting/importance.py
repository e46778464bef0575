"""Which genes mattered, as Optuna's PED-ANOVA judges (arXiv:2304.10255)."""

from __future__ import annotations

import warnings

from effkeras.errors import EffkerasError
from effkeras.search.reporting.trials import Point, Search

# With fewer trials the ranking is chance.
LEAST = 16


def importances(search: Search) -> dict[str, float]:
    """The share of each gene that has more than one choice tried, the largest first.

    {} for few trials, and where all have one reward.

    A gene matters when its choices among the best tenth of the trials differ from those among all.

    Raises EffkerasError without Optuna.
    """
    try:
        import optuna
    except ImportError as error:
        raise EffkerasError("a search's report needs Optuna: pip install 'effkeras[search]'") from error
    open_genes = _open_genes(search)
    rewards = {point.reward for point in search.points}
    if len(search.points) < LEAST or not open_genes or len(rewards) == 1:
        return {}
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study = optuna.create_study(direction="maximize")
            study.add_trials([_trial(point, open_genes) for point in search.points])
            judge = optuna.importance.PedAnovaImportanceEvaluator()
            return optuna.importance.get_param_importances(study, evaluator=judge)
    finally:
        optuna.logging.set_verbosity(before)


def _open_genes(search: Search) -> dict[str, list[str]]:
    """The choices that were tried, as words, of genes with several."""
    tried = {
        gene: sorted({str(point.choices[gene]) for point in search.points})
        for gene in search.points[0].choices
    }
    return {gene: words for gene, words in tried.items() if len(words) > 1}


def _trial(point: Point, genes: dict[str, list[str]]) -> object:
    import optuna

    return optuna.trial.create_trial(
        params={gene: str(point.choices[gene]) for gene in genes},
        distributions={
            gene: optuna.distributions.CategoricalDistribution(words) for gene, words in genes.items()
        },
        value=point.reward,
    )
