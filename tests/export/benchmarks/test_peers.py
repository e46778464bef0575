"""Peers are architectures of ours, and a pair of latencies becomes a row that says which is faster."""

from __future__ import annotations

import pytest

import effkeras
from effkeras.support.measurements import Delegation, Latency
from export.benchmarks.peers import Pair, Places, main, read_peers, timed


def latency(fastest: float) -> Latency:
    return Latency(
        "xnnpack", "XNNPACK", 1, 50, 5, fastest, fastest, 2 * fastest, 3 * fastest, Delegation(10, 10, 1)
    )


@pytest.mark.parametrize("name", read_peers())
def test_peers_have_a_model_of_ours_at_their_size(name):
    peer = read_peers()[name]
    assert effkeras.spec(name).input.size == (peer.side, peer.side)


def test_the_ratio_is_that_of_the_fastest_runs():
    peer = read_peers()["efficientdet-d0"]
    row = Pair("efficientdet-d0", "int8", peer, latency(9.0), latency(10.0)).to_row()
    assert (row["ratio"], row["ratio_median"], row["at_most"]) == (0.9, 0.9, 0.93)
    assert (row["threads"], row["peer"].rsplit(".", 1)[-1]) == (1, "EfficientDetD0")


def test_a_missing_environment_names_the_way_out(tmp_path):
    places = Places(tmp_path / "python", tmp_path)
    with pytest.raises(effkeras.EffkerasError, match="make bench-export makes it"):
        next(timed("efficientdet-d0", read_peers()["efficientdet-d0"], places, runs=1))


def test_a_conversion_that_fails_says_why(tmp_path):
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho 'No module named peers' >&2\nexit 1\n")
    broken.chmod(0o755)
    with pytest.raises(effkeras.EffkerasError, match="could not be converted: No module named peers"):
        next(timed("efficientdet-d0", read_peers()["efficientdet-d0"], Places(broken, tmp_path), runs=1))


def test_an_unknown_model_gets_a_hint(capsys):
    assert main(["--only", "efficientdet-d9"]) == 2
    assert "did you mean 'efficientdet-d0'?" in capsys.readouterr().err
