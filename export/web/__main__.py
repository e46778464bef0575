"""`effkeras export web MODEL`: makes a page that runs the model in a browser, and serves it."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import tempfile
import threading
import webbrowser
from collections.abc import Sequence
from pathlib import Path

from effkeras.building.sources import file_stem, run_folder, run_of_artifact
from effkeras.support.console import hint, note, run_command, say
from effkeras.support.errors import EffkerasError
from effkeras.support.options import MODEL_HELP, Verb, add_data, add_old_name, add_weights, parser
from export.web.server import HOST, serving

VERB = Verb("export web", "make a page that runs the model in a browser")
PORT = 8765
FAILED = 1
FROM_DATA, MOST_SAMPLES = 6, 24


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; exit code 1 when a .tflite that had to be made first was refused."""
    return run_command(lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> int:
    chosen = _parser().parse_args(argv)

    from export.web.page import is_page

    source = Path(chosen.model)
    if source.is_dir() and is_page(source):
        if not chosen.serve:
            raise EffkerasError(f"{source} is a page already; --serve serves it")
        return _serve(source, chosen.port)
    return _make(chosen)


def _make(chosen: argparse.Namespace) -> int:
    from export.web.page import check_folder, write_page
    from export.web.runtime import find_runtime

    out = chosen.out or _default_folder(chosen.model)
    check_folder(out)
    runtime = find_runtime(chosen.runtime)  # before the model is exported, which takes longer
    samples = _samples(chosen)
    artifact = _artifact(chosen)
    if artifact is None:
        return FAILED
    write_page(artifact, out, runtime, samples)
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    say(f"{out}: written, {size / 1e6:.0f} MB with LiteRT.js {runtime.version}; any web server can serve it")
    if chosen.serve:
        return _serve(out, chosen.port)
    hint(shlex.join(["effkeras", "export", "web", str(out), "--serve"]))
    return 0


def _default_folder(model: str) -> Path:
    run = run_folder(model)
    if run is not None:
        return run / "artifacts" / "web"
    path = Path(model)
    if path.suffix == ".tflite":
        run = run_of_artifact(path)
        return (run / "artifacts" if run else Path()) / f"{path.stem}-web"
    return Path(f"{file_stem(model)}-web")


def _samples(chosen: argparse.Namespace) -> list[Path]:
    """The images that --examples names, else the first of --data."""
    from effkeras.inference.predict import images_in

    if chosen.examples:
        found = [image for path in chosen.examples for image in images_in(path)]
        if len(found) > MOST_SAMPLES:
            note(f"the page offers the first {MOST_SAMPLES} of {len(found)} images")
        return found[:MOST_SAMPLES]
    if chosen.data is None:
        return []
    from effkeras.data.records import ReadOptions
    from effkeras.data.splits import default_split, read_split
    from effkeras.training.run import kept_options

    given = ReadOptions(skip_bad=chosen.skip_bad, one_based=chosen.one_based)
    split = default_split(chosen.data)
    data = read_split(chosen.data, split, kept_options(chosen.model, chosen.data, given))
    return [record.path for record in data.records[:FROM_DATA]]


def _artifact(chosen: argparse.Namespace) -> bytes | None:
    """The content of the given .tflite, or of one made of the model; None, with reasons, if it is refused."""
    from effkeras.litert.runner import read_flatbuffer

    path = Path(chosen.model)
    if path.suffix == ".tflite":
        given = {"--recipe": chosen.recipe, "--weights": chosen.weights}
        extra = next((name for name, value in given.items() if value is not None), None)
        if extra:
            raise EffkerasError(f"{extra} goes with a model, and {path} is an artifact already; leave it out")
        return read_flatbuffer(path)
    from export.tflite import ExportOptions, export_tflite

    with tempfile.TemporaryDirectory(prefix="effkeras-") as folder:
        options = ExportOptions(
            recipe=chosen.recipe or "float32",
            io="float32",
            data=chosen.data if chosen.recipe else None,
            skip_bad=chosen.skip_bad,
            one_based=chosen.one_based,
            weights=chosen.weights,
            out=None if run_folder(chosen.model) else Path(folder, "model.tflite"),
        )
        report = export_tflite(chosen.model, options)
        if report.passed:
            return report.file.read_bytes()
    for reason in report.problems or report.remedies or ("the file lost too much of its accuracy",):
        print(f"failed: {reason}", file=sys.stderr)
    command = ["effkeras", "export", "tflite", chosen.model, "--recipe", options.recipe]
    hint(shlex.join([*command, *(["--data", str(options.data)] if options.data else [])]), "says more")
    return None


def _serve(folder: Path, port: int) -> int:
    with serving(folder, port) as address:
        try:
            print(f"{address}  (Ctrl-C ends it)", flush=True)
            if _has_screen():
                webbrowser.open(address)
            while not threading.Event().wait(3600):  # Windows interrupts no wait without an end
                pass
        except KeyboardInterrupt:
            note("stopped")
    return 0


def _has_screen() -> bool:
    """Whether a browser with windows may open; on a bare terminal a text browser would."""
    if not sys.stdout.isatty():
        return False
    return sys.platform in ("darwin", "win32") or bool({"DISPLAY", "WAYLAND_DISPLAY"} & set(os.environ))


def _parser() -> argparse.ArgumentParser:
    options = parser(
        VERB.name,
        "Makes a folder with a page that runs the model in any browser, through LiteRT.js. Images stay in "
        "the browser; any static server can serve the folder, without a network too.",
    )
    options.add_argument(
        "model", help=f"a .tflite that effkeras exported; or {MODEL_HELP}; or such a page, to serve it"
    )
    add_weights(options)
    options.add_argument("--recipe", help="how a model becomes a .tflite (default: float32)")
    add_data(options, required=False)
    options.add_argument(
        "--examples",
        type=Path,
        nargs="+",
        metavar="IMAGE",
        help="images, or folders of them, that the page offers (default: the first of --data)",
    )
    add_old_name(options, "--samples", "--examples")
    options.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="default: RUN/artifacts/web, or MODEL-web in this folder",
    )
    options.add_argument(
        "--runtime",
        type=Path,
        metavar="DIR",
        help="an unpacked LiteRT.js, or npm's archive of it (default: fetched once from npm)",
    )
    options.add_argument(
        "--serve", action="store_true", help=f"serve the page on {HOST}, with the headers that threads need"
    )
    options.add_argument("--port", type=int, default=PORT, help=f"the port of --serve (default: {PORT})")
    return options


if __name__ == "__main__":
    sys.exit(main())
