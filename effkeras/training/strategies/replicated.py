"""Strategies of `tf.distribute`: a copy of the model on each device, gradients summed over all of them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from effkeras.support.errors import EffkerasError
from effkeras.training.strategies import Strategy

if TYPE_CHECKING:
    from effkeras.training.callbacks import Hook
    from effkeras.training.session import Session, TrainingModels, TrainingPlan
    from effkeras.training.settings import TrainSettings


class Replicated(Strategy):
    """A copy of the model on each device of `distribution`, a strategy of `tf.distribute`.

    With one device in all, it trains as a single one.
    """

    def __init__(self, distribution: Any) -> None:
        self.distribution = distribution
        self.replicas = int(distribution.num_replicas_in_sync)

    def scope(self) -> AbstractContextManager[object]:
        """See `Strategy`."""
        return nullcontext() if self.replicas == 1 else self.distribution.scope()  # type: ignore[no-any-return]

    def session(self, plan: TrainingPlan, models: TrainingModels, hooks: Sequence[Hook] = ()) -> Session:
        """See `Strategy`. Raises EffkerasError for a batch that cannot be split evenly."""
        from effkeras.training.strategies.session import ReplicatedSession

        if self.replicas == 1:
            return super().session(plan, models, hooks)
        self._check(plan.settings)
        return ReplicatedSession(self, plan, models, hooks)

    def agreed(self, make: Callable[[], Sequence[float]], count: int) -> list[float]:
        """The `count` numbers that `make` returns on the chief, in every process; only there it is called."""
        return list(make())

    def share(self, variables: Sequence[Any]) -> None:
        """Gives the variables of every process the values of the chief's; dtypes are NumPy's."""

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Turns the error that follows the death of another process into one line."""
        yield

    def _check(self, settings: TrainSettings) -> None:
        batch, over = settings.batch, self.replicas
        if batch % over:
            near = max(over, round(batch / over) * over)
            raise EffkerasError(
                f"a batch of {batch} cannot be split evenly over {over} devices; give --batch {near}"
            )
        if settings.mixed_precision == "float16":
            raise EffkerasError("several devices train in float32 or bfloat16, not in float16")
