"""Memory limits: rejects a model before it is built if its weights exceed the machine's memory."""

from __future__ import annotations

import os

from effkeras.definitions.definition import ModelSpec
from effkeras.graph.counting import count
from effkeras.support.errors import EffkerasError

# Bytes of images or activations held in memory at once; larger data is re-read, split or rejected.
MEMORY_BUDGET = 2 * 2**30
_BYTES = 4  # weights are float32 under every dtype policy


def check_memory(spec: ModelSpec) -> None:
    """Raises EffkerasError when a model's weights alone are larger than this machine's memory.

    Networks that only Keras can count are not checked.
    """
    memory = machine_memory()
    if memory is None or spec.network.needs_keras:
        return
    needed = count(spec).total * _BYTES
    if needed > memory:
        raise EffkerasError(
            f"{spec.name} has {needed // 2**30:,} GiB of weights, and this machine has "
            f"{memory // 2**30:,} GiB of memory; choose a smaller phi, width, depth or number of classes"
        )


def machine_memory() -> int | None:
    """Bytes of memory of this machine; None where the system does not report it."""
    names = getattr(os, "sysconf_names", {})
    if not {"SC_PHYS_PAGES", "SC_PAGE_SIZE"} <= set(names):
        return None
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return pages * size if pages > 0 and size > 0 else None
