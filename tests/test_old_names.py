"""Keys and options of the version before, which said picture for image, still work and say their new name."""

import argparse
import json
from pathlib import Path

import pytest

from effkeras.support import results
from effkeras.support.errors import EffkerasError
from effkeras.support.options import add_old_name
from effkeras.support.tables import current_names
from effkeras.training.settings import read_settings


def test_training_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "train.toml"
    file.write_text("validation_pictures = 300\n")
    assert read_settings(file, {}).validation_images == 300
    (line,) = capsys.readouterr().err.splitlines()
    assert "validation_pictures is now validation_images" in line


def test_a_key_that_never_was_stays_unknown(tmp_path: Path) -> None:
    file = tmp_path / "train.toml"
    file.write_text("pictures = 300\n")
    with pytest.raises(EffkerasError, match="unknown key 'pictures'"):
        read_settings(file, {})


def test_both_names_at_once_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "train.toml"
    file.write_text("validation_pictures = 300\nvalidation_images = 200\n")
    with pytest.raises(EffkerasError, match="unknown key 'validation_pictures'"):
        read_settings(file, {})


def test_rows_of_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "results.jsonl"
    rows = [{"kind": "eval", "pictures": 5}, {"kind": "export", "calibration_pictures": 7}, {"images": 3}]
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    read = results.read(file)
    assert read == [{"kind": "eval", "images": 5}, {"kind": "export", "calibration_images": 7}, {"images": 3}]
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_names_of_today_say_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert current_names({"images": 3}, "file") == {"images": 3}
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("words", [["--validation-pictures", "4"], ["--validation-pictures=4"]])
def test_options(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--validation-images", type=int, default=9)
    add_old_name(options, "--validation-pictures", "--validation-images")
    assert options.parse_args([]).validation_images == 9
    assert options.parse_args(words).validation_images == 4
    assert "--validation-pictures is now --validation-images" in capsys.readouterr().err
    assert "pictures" not in options.format_help()
