"""The `effkeras` command: one verb for each thing that a user does."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from effkeras.support.console import BAD_INPUT
from effkeras.support.errors import did_you_mean

# Each verb's module has `main(argv) -> int` and reads its own options; only the one asked for is imported.
# `export` lies above this package: its verbs are reached from here only.
VERBS = {
    "list": ("effkeras.commands.list", "all models of the zoo, with parameters and MACs"),
    "info": ("effkeras.commands.info", "what one model is made of"),
    "scale": ("effkeras.commands.scale", "a model scaled by phi, with parameters and MACs"),
    "weights": ("effkeras.commands.weights", "the weights that a model knows by name; downloads them"),
    "import": ("effkeras.commands.import_weights", "make a .keras file of weights in another format"),
    "data": ("effkeras.commands.data", "write a data set that ships: `effkeras data digits OUT`"),
    "search": ("effkeras.commands.search", "find a network for labelled images and a limit"),
    "train": ("effkeras.commands.train", "train a model on labelled images"),
    "eval": ("effkeras.commands.eval", "measure a run, a .keras file or an artifact"),
    "search report": (
        "effkeras.search.reporting.report",
        "draw searches: progress, Pareto front, genes",
    ),
    "search table": ("effkeras.commands.search_table", "time the blocks of a space, for `--cost table:FILE`"),
    "sensitivity": (
        "quantize.precision.command",
        "which layers suffer most from few bits",
    ),
    "predict": ("effkeras.commands.predict", "find objects or classes in images and videos"),
    "quantize": ("quantize.command", "compress a model by a recipe: pruning, channels, QAT, int8"),
    "export tflite": ("export.tflite", "make a LiteRT .tflite file and check it"),
    "export inspect": ("export.inspect", "what is in a .tflite file, made by whatever tool"),
    "export metadata": ("export.metadata.command", "put metadata back after edgetpu_compiler; set labels"),
    "export savedmodel": ("export.savedmodel", "make a SavedModel that takes images as they are"),
    "export bench": ("export.bench", "measure latencies of .tflite files"),
    "export preflight": ("export.preflight.command", "what an Edge TPU or a GPU runs of a .tflite"),
    "export report": ("export.report", "accuracy against size and latency, as a page"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a verb; returns the exit code (0 done, 1 a check failed, 2 bad input)."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print(_usage())
        return 0
    if words[0] == "--version":
        from effkeras import __version__

        print(f"effkeras {__version__}")
        return 0
    return _run(words)


def _run(words: list[str]) -> int:
    for length in (2, 1):
        verb = " ".join(words[:length])
        if verb in VERBS:
            module = importlib.import_module(VERBS[verb][0])
            return module.main(words[length:])
    if words[0] == "export":
        print(_usage("export"))
        return 0 if words[1:] in ([], ["-h"], ["--help"]) else BAD_INPUT
    print(f"error: there is no command {words[0]!r}; {did_you_mean(words[0], VERBS)}", file=sys.stderr)
    return BAD_INPUT


def _usage(group: str = "") -> str:
    width = max(map(len, VERBS))
    verbs = [f"  {verb:<{width}}  {about}" for verb, (_, about) in VERBS.items() if verb.startswith(group)]
    intro = "usage: effkeras COMMAND [options]     (COMMAND --help tells its options)\n"
    return "\n".join([intro, *verbs])
