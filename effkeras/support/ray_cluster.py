"""The connection to a Ray cluster, for a search and for a training."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from effkeras.support.errors import EffkerasError

# Seconds to wait for a connection to the cluster.
_CONNECT = 10.0
_NONE: Mapping[str, str] = MappingProxyType({})


def load_ray() -> Any:
    """The module `ray`. Raises EffkerasError where it is not installed."""
    try:
        import ray
        import ray.util.scheduling_strategies
    except ImportError as error:
        raise EffkerasError("--ray needs Ray: pip install 'effkeras[distributed]'") from error
    return ray


def connect(address: str, variables: Mapping[str, str] = _NONE) -> None:
    """Connects to a cluster, whose processes then have these variables in their environment.

    Raises EffkerasError when no cluster answers.
    """
    ray = load_ray()
    _check_address(address)
    path = os.pathsep.join(filter(None, sys.path))
    own = {"TF_CPP_MIN_LOG_LEVEL": "2", "PYTHONPATH": path}
    try:
        with contextlib.redirect_stdout(sys.stderr):
            ray.init(
                address=address,
                runtime_env={"env_vars": {**variables, **own}},
                logging_level=logging.ERROR,
                log_to_driver=False,
            )
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise EffkerasError(f"cannot connect to the Ray cluster {address}: {last_line(error)}") from error


def this_machine(*, soft: bool = False) -> Any:
    """The scheduling strategy for what shall run on this machine; with `soft`, elsewhere if it must."""
    return _on(load_ray().get_runtime_context().get_node_id(), soft=soft)


def all_machines() -> list[Any]:
    """For each machine of the cluster, this one first, the strategy for what shall run there if it can."""
    ray = load_ray()
    here = ray.get_runtime_context().get_node_id()
    nodes = sorted(node["NodeID"] for node in ray.nodes() if node["Alive"])
    return [_on(node, soft=True) for node in sorted(nodes, key=lambda node: node != here)]


def _on(node: str, *, soft: bool) -> Any:
    return load_ray().util.scheduling_strategies.NodeAffinitySchedulingStrategy(node, soft=soft)


def answer(reference: Any) -> Any:
    """The value of a reference, once it is there."""
    return load_ray().get(reference)


def last_line(error: Exception) -> str:
    """The last line of an error that says something: Ray's begin with the way to it."""
    return next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), repr(error))


def _check_address(address: str) -> None:
    """Raises EffkerasError for an address where nothing listens; Ray would wait for minutes."""
    if address == "auto":
        return
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit() or "/" in host:
        raise EffkerasError(
            f"{address!r} is no address of a Ray cluster: start this on one of its machines with "
            "--ray auto, or give HOST:PORT of its head"
        )
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT).close()
    except OSError as error:
        raise EffkerasError(f"no Ray cluster answers at {address}: {error.strerror or error}") from error
