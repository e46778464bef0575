"""Hooks that work without `tune`, as callbacks of a plain `fit`."""

from __future__ import annotations

from typing import Any

from effkeras.training.callbacks import Hook


class FitHook(Hook):
    """A hook that attaches itself to the model of `fit`, unless it was attached before.

    The number of steps is then 0 where `fit` does not know it.
    """

    _is_own: bool = False

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Attaches the hook."""
        trained = getattr(self, "trained", None)
        if trained is None or (self._is_own and trained is not self.model):
            self._is_own = True
            self.attach(self.model, self.params["epochs"] * (self.params.get("steps") or 0))
