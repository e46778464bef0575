from __future__ import annotations

from quantize.precision.measurements import MeasurementCache, digest


def test_another_memory_of_the_same_key_goes_on(tmp_path):
    MeasurementCache(tmp_path / "m.json", "key")["a"] = {"AP": 0.5}
    again = MeasurementCache(tmp_path / "m.json", "key")
    assert "a" in again
    assert again["a"] == {"AP": 0.5}


def test_another_key_starts_anew(tmp_path):
    MeasurementCache(tmp_path / "m.json", "key")["a"] = 1
    assert "a" not in MeasurementCache(tmp_path / "m.json", "other")


def test_a_broken_file_is_measured_again(tmp_path):
    (tmp_path / "m.json").write_text('{"key": "key", "val')
    cache = MeasurementCache(tmp_path / "m.json", "key")
    cache["a"] = 1
    assert MeasurementCache(tmp_path / "m.json", "key")["a"] == 1


def test_without_a_path_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    MeasurementCache()["a"] = 1
    assert list(tmp_path.iterdir()) == []


def test_digests_tell_contents_apart():
    assert digest("a", "b") == digest(b"a", "b")
    assert len({digest("a", "b"), digest("ab"), digest("b", "a"), digest("a", "b", "")}) == 4
