"""Results go to stdout and all else to stderr, whatever those are."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import pytest

from effkeras.support.console import facts, note, quiet, run_command, table
from effkeras.support.errors import EffkerasError
from effkeras.support.texts import printable

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


def test_a_message_that_a_file_made_long_keeps_its_beginning_and_end():
    message = str(EffkerasError(f"a.toml: there is no {'x' * 10_000}; did you mean y?"))
    assert len(message) == 4000
    assert message.startswith("a.toml: there is no xxx")
    assert message.endswith("xxx; did you mean y?")
    assert str(EffkerasError("short")) == "short"
