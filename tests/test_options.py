"""The options of all verbs: the same option has the same name and kind, and what is printed can be run."""

from __future__ import annotations

import argparse
import ast
import importlib
import re
from collections import defaultdict
from pathlib import Path

import pytest
from support.hints import check_mention, parsers

import effkeras
from effkeras.commands import completion
from effkeras.support.options import Renamed, commands, parser_of

SCRIPTED = {
    *("data check", "data convert", "data split", "eval", "import", "info", "list", "quantize", "scale"),
    *(
        "export bench",
        "export inspect",
        "export preflight",
        "export onnx",
        "export savedmodel",
        "export tflite",
    ),
    *("search", "sensitivity", "train", "weights"),
}
# Options of one name that differ in kind, each with the reason.
DIFFERENT = {
    "--config": "a search has settings of its own, without names",
    "--labels": "a file; of `eval` and `predict` the name imagenet, too",
    "--test --val": "numbers of images that are drawn; shares of images that are there",
    "--threads": "a bench takes several",
    "--workers": "a training takes a file of hosts too",
}


def options() -> dict[str, dict[str, argparse.Action]]:
    """All options by name, then by verb; old names, which are hidden, are left out."""
    found: dict[str, dict[str, argparse.Action]] = defaultdict(dict)
    for verb, made in parsers().items():
        for action in made._actions:
            for name in action.option_strings if action.help != argparse.SUPPRESS else ():
                found[name][verb] = action
    return found


def kind(action: argparse.Action) -> tuple[object, ...]:
    """What an option takes: a word that is in all helps, a number, a list, nothing."""
    names = {
        "above_zero": "int",
        "_at_least_zero": "int",
        "positive": "float",
        "not_negative": "float",
        "_share": "float",
    }
    name = getattr(action.type, "__name__", "str")
    return type(action).__name__, names.get(name, name), action.nargs


@pytest.mark.parametrize("name", sorted(name for name, verbs in options().items() if len(verbs) > 1))
def test_one_name_takes_one_kind(name):
    kinds = {verb: kind(action) for verb, action in options()[name].items()}
    if name not in " ".join(DIFFERENT).split():
        assert len(set(kinds.values())) == 1, kinds


def test_one_thing_has_one_name():
    """Words of the field that are options somewhere are not called otherwise elsewhere."""
    names = set(options())
    assert not names & {"--cls", "--confidence", "--device", "--output", "--threshold", "--thresh", "--dir"}
    folders = {action.metavar for verbs in options().values() for action in verbs.values() if action.metavar}
    assert not folders & {"FOLDER", "DIRECTORY", "PATH"}


def test_scripts_get_json_and_all_can_be_quiet():
    assert set(options()["--json"]) == SCRIPTED
    assert set(options()["-q"]) == set(parsers())


def test_old_names_say_the_new_one_and_are_no_choice_of_help(capsys):
    old = [
        (verb, action)
        for verb, made in parsers().items()
        for action in made._actions
        if isinstance(action, Renamed)
    ]
    assert {(verb, *action.option_strings) for verb, action in old} >= {
        ("explain", "--most"),
        ("export report", "--samples"),
        ("export tflite", "--backend"),
        ("export web", "--samples"),
        ("predict", "--json"),
        ("scale", "--toml"),
        ("search", "--limit"),
        ("sensitivity", "--pictures"),
    }
    for verb, action in old:
        made = parsers()[verb]
        assert action.option_strings[0] not in re.sub(r"--json\s+print", "", made.format_help())
        given = argparse.Namespace(**{action.dest: None})
        action(made, given, "x", action.option_strings[0])
        assert getattr(given, action.dest) in ("x", ["x"])
        assert f"{action.option_strings[0]} is now --" in capsys.readouterr().err


def mentions() -> list[str]:
    """The commands that texts of the program name in backticks."""
    found = []
    for package in ("effkeras", "export", "quantize"):
        for file in (Path(effkeras.__file__).parents[1] / package).rglob("*.py"):
            source = file.read_text(encoding="utf-8")
            for node in ast.walk(ast.parse(source)) if "`effkeras " in source else ():
                if isinstance(node, ast.JoinedStr):
                    parts = [one.value if isinstance(one, ast.Constant) else "X" for one in node.values]
                    found += re.findall(r"`(effkeras [^`]+)`", "".join(map(str, parts)))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found += re.findall(r"`(effkeras [a-z][^`]+)`", node.value)
    return sorted(set(found))


def test_commands_that_texts_name_exist():
    groups = {f"effkeras {verb.split()[0]}" for verb in parsers() if " " in verb}
    found = [one for one in mentions() if one.split()[1] != "X" and one not in groups]
    assert len(found) > 20
    for one in found:
        check_mention(one)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_gets_a_script(shell, capsys):
    assert completion.main([shell]) == 0
    script = capsys.readouterr().out
    for word in ("savedmodel", "recipe", "digits-b0" if shell != "fish" else "sensitivity"):
        assert word in script
    assert "--pictures" not in script


@pytest.mark.parametrize("columns", [40, 80])
def test_help_is_as_wide_as_the_screen(columns, monkeypatch):
    """But for words that are wider themselves."""
    monkeypatch.setenv("COLUMNS", str(columns))
    for verb, one in commands().items():
        text = parser_of(importlib.import_module(one.module).main).format_help()
        wide = [line for line in text.splitlines() if len(line) > columns and len(line.split()) > 2]
        assert not wide, verb
