"""`effkeras search --demo`: the winner stands beside networks by hand that cost the same."""

from __future__ import annotations

import shutil

import pytest

from effkeras.definitions import zoo
from effkeras.graph.counting import count
from export.benchmarks import search_demo
from export.benchmarks.search_demo import BASELINES, SearchDemo, scaled_to, show


@pytest.mark.parametrize("name", ["mnasnet-small-32", "mobilenet-v2-32"])
@pytest.mark.parametrize("macs", [1_000_000, 1_250_000, 1_500_000])
def test_a_baseline_is_scaled_to_the_cost(name, macs):
    spec = scaled_to(zoo.spec(BASELINES / f"{name}.toml"), macs)
    assert count(spec).macs == pytest.approx(macs, rel=0.11)
    assert spec.input.size == (32, 32)


@pytest.mark.slow
def test_it_ends_with_the_winner_beside_a_network_by_hand(tmp_path, monkeypatch, capsys):
    """One of the two by hand is enough here: each is trained, exported and timed in the same way."""
    by_hand = tmp_path / "baselines"
    by_hand.mkdir()
    shutil.copy(BASELINES / "mobilenet-v2-32.toml", by_hand)
    monkeypatch.setattr(search_demo, "BASELINES", by_hand)
    few = ["--train", "96", "--val", "32", "--test", "32", "--classify"]
    monkeypatch.setattr(search_demo, "_DIGITS", few)
    monkeypatch.setattr(search_demo, "_TRAINING", ["--epochs", "1"])
    one = ["--workers", "1", "--epochs", "1", "--batch", "32", "--objective", "mnas-hard"]
    monkeypatch.setattr(search_demo, "_SEARCH", one)
    page = show(SearchDemo(tmp_path, trials=2))
    printed = capsys.readouterr().out
    rows = [line.split() for line in printed[printed.index("network") :].splitlines()]
    networks = {row[0]: row[1:] for row in rows if len(row) == 7}
    assert list(networks) == ["winner", "mobilenet-v2-32"]
    for macs, parameters, before, after, size, median in networks.values():
        assert 0 < float(macs) < 3
        assert int(parameters.replace(",", "")) > 1000
        assert 0 <= min(float(before), float(after)) <= max(float(before), float(after)) <= 1
        assert min(float(size), float(median)) > 0
    assert page.name == "report.html"
    assert page.is_file()
    for name in networks:
        assert (tmp_path / "runs" / name / "artifacts" / "int8.tflite").is_file()
