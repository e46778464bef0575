"""One worker process: `python -m effkeras.search.workers.child`, started by `processes`.

Its order comes pickled on stdin, which stays open: when it closes, the search's process has gone, and so
does this one. What it and its libraries print goes to its log.
"""

from __future__ import annotations

import os
import pickle
import sys
import threading
from dataclasses import dataclass

from effkeras.console import BAD_INPUT
from effkeras.errors import EffkerasError
from effkeras.search.job import SearchJob, locks_of, open_ledger
from effkeras.search.store.ledger import Limits
from effkeras.search.store.locks import claimed
from effkeras.search.workers.loop import work


@dataclass(frozen=True, slots=True)
class Order:
    """What a worker process works for."""

    job: SearchJob
    limits: Limits


def main() -> int:
    """Works until no candidate is left; 2 when the order cannot be carried out, and the log says why."""
    order: Order = pickle.load(sys.stdin.buffer)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        carry_out(order)
    except EffkerasError as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    return 0


def carry_out(order: Order) -> None:
    """Works until no candidate is left."""
    evaluator = order.job.evaluation()
    with claimed(locks_of(order.job.out), order.limits.session) as owner:
        work(open_ledger(order.job, order.limits), evaluator, order.job.objective, owner)


def _end_with_parent() -> None:
    # Not by sys.stdin, whose lock a thread must not hold when the interpreter ends.
    while os.read(0, 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    sys.stdout.flush()
    os._exit(code)  # native libraries are slow to end, and sometimes crash
