"""The command: what it prints, how fast it answers, and that every bad input is one clear line."""

from __future__ import annotations

import importlib
import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.pages import complete_file
from support.tiny import tiny_classifier, tiny_detector

import effkeras
from effkeras import cli
from effkeras.weights.keras_files import save

HEAVY = ("tensorflow", "keras", "sklearn", "matplotlib", "rich")
HELPS = [[], ["--help"], ["--version"], ["export"], *([*verb.split(), "--help"] for verb in cli.commands())]


def run(*words: object) -> int:
    try:
        return cli.main([str(word) for word in words])
    except SystemExit as ending:  # argparse's --help
        return int(ending.code or 0)


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    """A detector, as random as it was built, in a .keras file."""
    path = tmp_path_factory.mktemp("models") / "tiny.keras"
    save(effkeras.build(tiny_detector()), path)
    return path


@pytest.mark.parametrize("words", HELPS, ids=" ".join)
def test_help(words, capsys):
    assert run(*words) == 0
    out = capsys.readouterr().out
    assert "effkeras" in out
    assert max(map(len, out.splitlines())) <= 80


def test_light_commands_load_nothing_heavy():
    """In one process each: the import, every --help, and the list."""
    code = "import sys; from effkeras import cli\n"
    code += "\n".join(
        f"try: cli.main({words!r})\nexcept SystemExit: pass" for words in HELPS if words != ["--version"]
    )
    code += f"\nprint([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_verb_is_one_file(tmp_path, monkeypatch, capsys):
    source = complete_file("verb.md")
    (tmp_path / "greet.py").write_text(source)
    folders = [*importlib.import_module("effkeras.commands").__path__, str(tmp_path)]
    monkeypatch.setattr("effkeras.commands.__path__", folders)
    assert run("--help") == 0
    assert "greet somebody" in capsys.readouterr().out
    assert "effkeras.commands.greet" not in sys.modules
    assert run("greet", "you") == 0
    assert capsys.readouterr().out == "hello you\n"
    sys.modules.pop("effkeras.commands.greet")


def test_every_command_module_is_found():
    """Its VERB is read as text: a line of another form would be overlooked."""
    root = Path(effkeras.__file__).parents[1]
    written = {
        str(file.relative_to(root).with_suffix("")).replace("/", ".")
        for folder in ("effkeras", "quantize", "export")
        for file in (root / folder).rglob("*.py")
        if re.search(r"^VERB\b", file.read_text(), re.MULTILINE)
    }
    assert {command.module for command in cli.commands().values()} == written
    assert len(written) == 29


def test_import_is_light():
    code = "import sys, effkeras; print(sorted(set(sys.modules) & {'tensorflow', 'keras', 'numpy', 'PIL'}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_list_shows_every_model(capsys):
    assert run("list") == 0
    out = capsys.readouterr().out
    assert all(name in out for name in effkeras.list_models())
    assert "3.88 M" in out


def test_list_shows_part_of_the_zoo(capsys):
    assert run("list", "efficientdet-lite") == 0
    out = capsys.readouterr().out
    assert "efficientdet-lite3x" in out
    assert "efficientnet" not in out


def test_info_shows_counts_and_source(capsys):
    assert run("info", "d0") == 0
    out = capsys.readouterr().out
    assert "3,880,067" in out
    assert "49,104" in out
    assert "google/automl" in out


def test_info_shows_a_detector_on_another_backbone(capsys):
    assert run("info", "efficientdet-lite0", "--backbone", "squeezenet-1.1") == 0
    out = capsys.readouterr().out
    assert "efficientdet-lite0-squeezenet-1.1" in out
    assert "fire modules" in out


def test_info_toml_is_a_definition(capsys, tmp_path):
    assert run("info", "d0", "--toml") == 0
    file = tmp_path / "copy.toml"
    file.write_text(capsys.readouterr().out)
    assert effkeras.spec(file) == effkeras.spec("d0")


def test_eval_prints_metrics(saved, digits, capsys):
    assert run("eval", saved, "--data", digits, "--limit", 4) == 0
    out = capsys.readouterr().out
    assert "AP50" in out
    assert "4 test images" in out


def test_predict_prints_json_lines_and_draws(saved, digits, tmp_path, capsys):
    images = digits / "test" / "images"
    assert run("predict", saved, images, "--min-score", 0.0, "--save", tmp_path / "out") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 8
    first = lines[0]["detections"][0]
    assert first.keys() == {"label", "class", "score", "box"}
    assert all(0 <= value <= 64 for value in first["box"])
    assert len(list((tmp_path / "out").glob("*.png"))) == 8


def test_predict_names_classes(digit_classes, tmp_path, capsys):
    path = tmp_path / "c.keras"
    save(effkeras.build(tiny_classifier()), path)
    assert run("predict", path, digit_classes / "test" / "0", "--save", tmp_path / "out") == 0
    record = json.loads(capsys.readouterr().out.splitlines()[0])
    assert len(record["classes"]) == 5
    assert sum(one["score"] for one in record["classes"]) <= 1.001


def test_predict_skips_a_bad_image_among_good_ones(saved, digits, tmp_path, capsys):
    """Two of those have the same name but for the suffix, and are both drawn."""
    some = sorted((digits / "test" / "images").glob("*.jpg"))[:2]
    (tmp_path / "p").mkdir()
    for image, suffix in zip(some, ("jpg", "png"), strict=True):
        shutil.copy(image, tmp_path / "p" / f"good.{suffix}")
    (tmp_path / "p" / "bad.jpg").write_bytes(b"\xff\xd8")
    assert run("predict", saved, tmp_path / "p", "--save", tmp_path / "out") == 0
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 2
    assert "bad.jpg" in captured.err
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"good.jpg.png", "good.png.png"}


def test_train_puts_regularisers_into_the_definition(digit_classes, tmp_path, monkeypatch):
    jobs = []
    monkeypatch.setattr("effkeras.training.loop.train", jobs.append)
    words = ["--dropout", 0.4, "--survival", 0.7, "--drop-block", 0.9, "--label-smoothing", 0.1]
    assert run("train", "efficientnet-digits", "--data", digit_classes, "--out", tmp_path / "r", *words) == 0
    network = jobs[0].spec.network
    assert (network.dropout, network.survival, network.drop_block.keep) == (0.4, 0.7, 0.9)
    assert jobs[0].settings.label_smoothing == 0.1


def test_train_takes_what_is_minimised_and_how(digit_classes, tmp_path, monkeypatch, capsys):
    jobs = []
    monkeypatch.setattr("effkeras.training.loop.train", jobs.append)
    words = ["train", "efficientnet-digits", "--data", digit_classes, "--out", tmp_path / "r"]
    given = {"optimizer": "rmsprop", "class_weights": "balanced", "accumulate": 2, "freeze": "stages:1"}
    options = [part for name, value in given.items() for part in (f"--{name.replace('_', '-')}", value)]
    for last, precision in ([[], "bfloat16"], [["float16"], "float16"]):
        assert run(*words, *options, "--mixed-precision", *last) == 0
        read = jobs.pop().settings
        assert {name: getattr(read, name) for name in given} == given
        assert read.mixed_precision == precision
    assert run(*words, "--optimizer", "rmsporp") == 2
    assert "did you mean 'rmsprop'?" in capsys.readouterr().err


def edited_labels(folder: Path, change) -> None:
    file = folder / "train" / "labels.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


BAD_LABELS = {
    "outside": lambda c: c["annotations"][0].update(bbox=[600, 600, 30, 30]),
    "zero area": lambda c: c["annotations"][0].update(bbox=[5, 5, 0, 9]),
    "nan": lambda c: c["annotations"][0].update(bbox=[5, float("nan"), 9, 9]),
    "category": lambda c: c["annotations"][0].update(category_id=77),
    "no annotations": lambda c: c["annotations"].clear(),
    "missing image": lambda c: c["images"][0].update(file_name="gone.jpg"),
}


@pytest.mark.parametrize("case", BAD_LABELS)
def test_train_refuses_bad_labels(case, digits, tmp_path, capsys):
    folder = tmp_path / "data"
    shutil.copytree(digits, folder)
    edited_labels(folder, BAD_LABELS[case])
    out = tmp_path / "run"
    assert run("train", "efficientdet-digits", "--data", folder, "--out", out) == 2
    assert one_line(capsys.readouterr().err)
    assert not out.exists()


def one_line(text: str) -> bool:
    errors = [line for line in text.splitlines() if line.startswith("error: ")]
    return len(errors) == 1 and text.splitlines()[-1] == errors[0] and "Traceback" not in text


@dataclass(frozen=True)
class Place:
    """Where the bad input lies."""

    saved: Path
    digits: Path
    here: Path

    def train(self, *more: object, out: str = "run") -> list[object]:
        return ["train", "efficientdet-digits", "--data", self.digits, "--out", self.here / out, *more]

    def eval(self, model: str) -> list[object]:
        return ["eval", self.here / model, "--data", self.digits]

    def export(self, recipe: str, out: object) -> list[object]:
        return ["export", "tflite", self.saved, "--recipe", recipe, "--out", out]


@pytest.fixture
def place(saved, digits, tmp_path) -> Place:
    (tmp_path / "broken.toml").write_text("schema = [")
    (tmp_path / "key.toml").write_text('base = "efficientnet-b0"\n[network]\nwidht = 2.0\n')
    (tmp_path / "infinite.toml").write_text('base = "efficientnet-b0"\n[network]\nwidth = inf\n')
    (tmp_path / "pixels.toml").write_text('base = "efficientnet-b0"\n[input]\nsize = [8, 8]\n')
    (tmp_path / "corrupt.keras").write_bytes(saved.read_bytes()[:5000])
    (tmp_path / "not.keras").write_bytes(b"hello")
    (tmp_path / "corrupt.tflite").write_bytes(b"\x00" * 400)
    (tmp_path / "corrupt.index").write_bytes(b"\x00" * 400)
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    image = next((digits / "test" / "images").glob("*.jpg"))
    (tmp_path / "half.jpg").write_bytes(image.read_bytes()[:300])
    return Place(saved, digits, tmp_path)


BAD_CALLS = {
    "no such backbone": lambda p: p.train("--backbone", "squeezenet-9"),
    "a backbone for a classifier": lambda p: ["info", "b0", "--backbone", "squeezenet-1.1"],
    "no such command": lambda p: ["trian"],
    "no such option": lambda p: ["list", "--all"],
    "no such part of the zoo": lambda p: ["list", "zzz"],
    "no such model": lambda p: ["info", "efficientnet-b00"],
    "ambiguous model": lambda p: ["info", "lite0"],
    "no such definition": lambda p: ["info", p.here / "gone.toml"],
    "broken TOML": lambda p: ["info", p.here / "broken.toml"],
    "unknown TOML key": lambda p: ["info", p.here / "key.toml"],
    "output below a file": lambda p: p.train(out="file/run"),
    "output is a file": lambda p: p.train(out="file"),
    "no such weights": lambda p: p.train("--weights", p.here / "gone"),
    "corrupt weights": lambda p: p.train("--weights", p.here / "corrupt.keras"),
    "corrupt checkpoint": lambda p: p.train("--weights", p.here / "corrupt"),
    "unknown setting": lambda p: p.train("--config", p.here / "key.toml"),
    "zero epochs": lambda p: p.train("--epochs", "0"),
    "label smoothing of 1": lambda p: p.train("--label-smoothing", "1"),
    "survival above 1": lambda p: p.train("--survival", "1.5"),
    "DropBlock keeps nothing": lambda p: p.train("--drop-block", "0"),
    "DropBlock is NaN": lambda p: p.train("--drop-block", "nan"),
    "dropout of a detector": lambda p: p.train("--dropout", "0.5"),
    "infinite width": lambda p: ["info", p.here / "infinite.toml"],
    "8 pixels for five strides": lambda p: ["info", p.here / "pixels.toml"],
    "scale by NaN": lambda p: ["scale", "b0", "--phi", "nan"],
    "no data folder": lambda p: ["train", "d0", "--data", p.here / "gone", "--out", p.here / "run"],
    "empty data folder": lambda p: ["train", "d0", "--data", p.here / "empty", "--out", p.here / "run"],
    "classifier on boxes": lambda p: ["train", "b0", "--data", p.digits, "--out", p.here / "run"],
    "no such split": lambda p: ["eval", p.saved, "--data", p.digits, "--split", "tset"],
    "no such run": lambda p: p.eval("gone"),
    "corrupt .keras": lambda p: p.eval("corrupt.keras"),
    "not a .keras": lambda p: p.eval("not.keras"),
    "corrupt .tflite": lambda p: p.eval("corrupt.tflite"),
    "no such image": lambda p: ["predict", p.saved, p.here / "gone.jpg"],
    "truncated image": lambda p: ["predict", p.saved, p.here / "half.jpg"],
    "folder without images": lambda p: ["predict", p.saved, p.here / "empty"],
    "int8 without data": lambda p: p.export("int8", p.here / "x.tflite"),
    "unknown recipe": lambda p: p.export("int9", p.here / "x.tflite"),
    "unwritable artifact": lambda p: p.export("float32", p.here / "file" / "x.tflite"),
    "bench of nothing": lambda p: ["export", "bench", p.here / "gone.tflite"],
    "report of nothing": lambda p: ["export", "report", p.here / "empty"],
    "digits into a full folder": lambda p: ["data", "digits", p.digits],
}


@pytest.mark.parametrize("case", BAD_CALLS)
def test_bad_input_is_one_line_and_exit_code_2(case, place, capsys):
    before = set(place.here.rglob("*"))
    assert run(*BAD_CALLS[case](place)) == 2
    assert one_line(capsys.readouterr().err)
    assert set(place.here.rglob("*")) == before


def test_info_shows_cells(capsys):
    assert run("info", "nasnet-mobile") == 0
    out = capsys.readouterr().out
    assert "16, of which 4 halve the resolution" in out
    assert "sep5x5(h) + sep3x3(p)" in out
