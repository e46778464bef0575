"""Results go to stdout and all else to stderr, whatever those are."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys

import pytest

from effkeras.support.console import (
    facts,
    hint,
    note,
    progress,
    quiet,
    result,
    run_command,
    say,
    table,
    track,
    warn,
)
from effkeras.support.errors import EffkerasError, printable
from effkeras.support.options import add_json, parser

CODE = "from effkeras.support.console import track\nfor i in track(range(3), 'frames'): print(i, flush=True)"


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a terminal of its own")
def test_what_is_printed_beside_a_bar_reaches_the_file():
    """With stderr a terminal and stdout a file, as in `effkeras predict ... > lines.jsonl`."""
    ours, theirs = os.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-c", CODE], stdout=subprocess.PIPE, stderr=theirs, text=True, check=True
        )
    finally:
        os.close(theirs)
        os.close(ours)
    assert done.stdout.split() == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("resumes", "said"), [(True, "run the same command again"), (False, "no unfinished file is left")]
)
def test_an_interruption_says_what_is_left(resumes, said, capsys):
    def stop():
        raise KeyboardInterrupt

    assert run_command(stop, resumes=resumes) == 130
    assert said in capsys.readouterr().err


def test_names_are_no_markup_nor_emoji(capsys):
    evil = "x[/x] [bold]:bomb:"
    table(evil, [evil], [[evil]])
    facts(evil, [(evil, evil)])
    assert capsys.readouterr().out.count(evil) == 6


def test_texts_of_files_are_short_and_without_control_codes():
    assert printable("a\x1b[2J\nb\udc80") == "a?[2J?b?"
    assert printable("Möwe 海鷗", 7) == "Möwe 海鷗"
    assert printable("Möwe 海鷗", 6) == "Möwe 海..."


def test_no_control_code_of_a_file_reaches_the_terminal(capsys):
    evil = "a\x1b]0;owned\x07\x9b2J\u202eb\rc"

    def fail():
        raise EffkerasError(f"{evil}\nd")

    assert run_command(fail) == 2
    note(f"{evil}\n\tmore")
    table(evil, [evil], [[evil]])
    facts(evil, [(evil, evil)])
    shown = capsys.readouterr()
    assert shown.err.splitlines()[0] == "error: a?]0;owned??2J?b c d"
    assert shown.err.splitlines()[1:] == ["a?]0;owned??2J?b?c", "\tmore"]
    assert not set(shown.out + shown.err) & set("\x1b\x07\x9b\u202e\r")


def test_what_effkeras_warns_of_is_seen_after_all(capsys):
    """Loading weights warns of what they did not cover, and commands load quietly."""
    with quiet():
        logging.getLogger("effkeras").warning("the head is %s", "random")
        logging.getLogger("elsewhere").warning("noise")
    assert capsys.readouterr().err == "the head is random\n"


def test_no_command_shows_what_tensorflow_prints_while_it_loads(tmp_path):
    noise = "import logging, os\nos.write(2, b'I0000 oneDNN')\nprint('loaded')\n"
    (tmp_path / "tensorflow.py").write_text(f"{noise}logging.getLogger(__name__).warning('retracing')\n")
    code = (
        "from effkeras.support.console import run_command\n"
        "def body():\n    import logging, tensorflow\n    print(tensorflow.__spec__.origin)\n"
        "    logging.getLogger('absl').warning('saved')\n"
        "run_command(body)"
    )
    paths = os.pathsep.join([str(tmp_path), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": paths},
    )
    assert (done.stdout, done.stderr) == (f"{tmp_path / 'tensorflow.py'}\n", "")


def test_a_message_that_a_file_made_long_keeps_its_beginning_and_end():
    message = str(EffkerasError(f"a.toml: there is no {'x' * 10_000}; did you mean y?"))
    assert len(message) == 4000
    assert message.startswith("a.toml: there is no xxx")
    assert message.endswith("xxx; did you mean y?")
    assert str(EffkerasError("short")) == "short"


WIDE = ("layer of the network", ["blocks_12_expand/conv2d", "Conv2D", "0.1234", "99.99", "12.5"])


def shown(capsys, monkeypatch, columns: int, *, fold_figures: bool = False) -> str:
    monkeypatch.setenv("COLUMNS", str(columns))
    names = [WIDE[0], "operator", "error", "% MACs", "drop in points"]
    table("a title", names, [WIDE[1]], fold_figures=fold_figures)
    return capsys.readouterr().out


@pytest.mark.parametrize("fold_figures", [False, True])
def test_tables_fit_40_columns_and_lose_no_figure(fold_figures, capsys, monkeypatch):
    narrow = shown(capsys, monkeypatch, 40, fold_figures=fold_figures)
    assert max(map(len, narrow.splitlines())) <= 40
    assert {"Conv2D", "0.1234", "99.99", "12.5"} <= set(narrow.split())
    assert "─" in shown(capsys, monkeypatch, 100)


def test_titles_keep_paths_whole_and_names_break_at_hyphens(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    path = f"/{'long/' * 12}int8.tflite"
    table(
        f"{path} on 72 test images",
        ["file", "ms"],
        [["int8-mediapipe-of-a-long-name", "9" * 22]],
        fold_figures=False,
    )
    out = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert out[:2] == [path, "on 72 test images"]
    assert out[5].split() == ["int8-", "9" * 22]
    assert out[6:8] == [" mediapipe-of-", " a-long-name"]


def test_facts_fit_40_columns(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    facts("a model", [("trainable parameters", "3,880,067"), ("summary", "many words " * 12)])
    assert max(len(line.rstrip()) for line in capsys.readouterr().out.splitlines()) <= 40


@pytest.mark.parametrize("no_color", ["", "1"])
def test_no_color_is_heeded(no_color, capsys, monkeypatch):
    """The escape sequences of colours are ESC [ 3x m and 4x m; bold is none."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", no_color)
    with progress() as bar:
        bar.add_task("x", total=2, completed=1)
    has_colour = "\x1b[3" in capsys.readouterr().err
    assert has_colour == (not no_color)


def run_verb(words: list[str], body) -> int:
    """A verb with --json and -q that runs a body."""

    def verb() -> None:
        made = parser("greet", "greets")
        add_json(made)
        assert vars(made.parse_args(words)) == {}
        body()

    return run_command(verb)


def speak() -> None:
    note("a note")
    hint("effkeras list")
    warn("warning: hot")
    table("", ["name", "figure"], [["a", "1"]])
    facts("facts", [("b", "2")])
    say("a line")
    result({"figure": 1.5, "none": float("nan"), "many": (1, {"x": float("inf")})})
    for _ in track(range(2), "working"):
        pass


def test_json_is_all_of_stdout(capsys):
    assert run_verb(["--json"], speak) == 0
    said = capsys.readouterr()
    assert json.loads(said.out) == {"figure": 1.5, "none": None, "many": [1, {"x": None}]}
    assert said.err.splitlines() == ["a note", "next: effkeras list", "warning: hot"]


def test_quiet_leaves_results_and_warnings(capsys, monkeypatch):
    assert run_verb(["-q"], speak) == 0
    said = capsys.readouterr()
    assert said.err == "warning: hot\n"
    assert {"name", "figure", "facts", "2", "line"} <= set(said.out.split())
    assert run_verb([], speak) == 0  # nothing of it stays
    assert "next: effkeras list" in capsys.readouterr().err


def test_a_task_that_ends_by_time_tells_what_is_left_of_it(monkeypatch, capsys):
    now = [0.0]
    with progress() as bar:
        monkeypatch.setattr(bar, "get_time", lambda: now[0])
        task = bar.add_task("loss 1.0", total=100)
        for step in range(1, 5):
            now[0] += 15
            bar.update(task, completed=step, left=600 - now[0])
    assert capsys.readouterr().err.splitlines()[0] == "loss 1.0: 1 of 100, 0:00:15, 0:09:45 left"


def test_so_does_the_bar_of_a_terminal(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # by which rich takes any stream for a terminal
    bar = progress()
    task = bar.add_task("loss 1.0", total=100, completed=9)
    bar.update(task, completed=10, left=585)
    shown = bar.columns[-1].render(bar.tasks[0])
    assert str(shown) == "0:09:45"


def test_progress_without_a_terminal_is_lines_now_and_then(monkeypatch, capsys):
    """40 images of 1.5 s: a line after 10 s, then at growing intervals, and one at the end."""
    now = [0.0]
    with progress() as bar:
        monkeypatch.setattr(bar, "get_time", lambda: now[0])
        task = bar.add_task("measuring", total=40)
        for _ in range(40):
            now[0] += 1.5
            bar.advance(task)
        quick = bar.add_task("reading", total=2)
        bar.update(quick, completed=2)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "measuring: 7 of 40, 0:00:10, 0:00:50 left"
    assert lines[-1] == "measuring: 40 of 40, 0:01:00"
    assert 4 <= len(lines) <= 6
    assert max(map(len, lines)) <= 48
