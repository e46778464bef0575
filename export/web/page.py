"""Writes the folder of a page that runs a .tflite in the browser."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import shutil
import string
from collections.abc import Sequence
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

import effkeras
from effkeras.data.images import is_image
from effkeras.definitions.definition import ModelSpec, detector_parts
from effkeras.detection.boxes import anchor_boxes
from effkeras.detection.nms import BOXES
from effkeras.inference.threshold import DEFAULT, ENTRY, Threshold
from effkeras.litert.edge_tpu import is_compiled
from effkeras.litert.flatbuffer import Interface, IOTensor, interface
from effkeras.litert.rewriting import attached
from effkeras.litert.runner import RECIPE, definition_of, roles_of
from effkeras.support.errors import EffkerasError
from effkeras.support.files import whole_folder
from export.web.runtime import MODULE, WASM, Runtime, pinned

INDEX, ABOUT, MODEL = "index.html", "model.json", "model.tflite"
_ANCHORS, _SAMPLES = "anchors.bin", "samples"
# What LiteRT.js hands to a network and takes from it.
_TYPES = ("float32", "uint8")
# The page imports LiteRT.js, which imports the loader of its WebAssembly by this name; ours stands in for it.
_IMPORTS = json.dumps({"imports": {"@litertjs/wasm-utils": "./loader.js"}})
# Formats that every browser shows.
_SHOWN = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp")


def write_page(artifact: bytes, out: Path, runtime: Runtime, samples: Sequence[Path] = ()) -> None:
    """Writes a page, and all that it needs, to a folder; a page that was there before is replaced.

    Args:
        artifact: the content of a .tflite that effkeras exported.
        out: the folder.
        runtime: the LiteRT.js that is copied beside it.
        samples: images that the page offers.

    Raises:
        EffkerasError: the file is not for a browser, `out` holds other files, or cannot be written.
    """
    about, anchors = described(artifact)
    check_folder(out)
    names = _sample_names(samples)
    about["runtime"]["version"] = runtime.version
    about["samples"] = list(names.values())
    with whole_folder(out) as folder:
        _write_assets(folder, str(about["name"]))
        (folder / MODEL).write_bytes(artifact)
        if anchors:
            (folder / _ANCHORS).write_bytes(anchors)
        (folder / ABOUT).write_text(json.dumps(about, indent=1), "utf-8")
        runtime.copy_to(folder)
        for source, name in names.items():
            (folder / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(source, folder / name)


def check_folder(out: Path) -> None:
    """Raises EffkerasError for a folder with files that are not a page's: it would be replaced."""
    if out.is_dir() and any(out.iterdir()) and not is_page(out):
        raise EffkerasError(f"{out} holds other files, and a page replaces its folder; give another --out")
    if out.exists() and not out.is_dir():
        raise EffkerasError(f"{out} is a file; give a folder with --out")


def is_page(folder: Path) -> bool:
    """Whether a folder holds a page of `write_page`."""
    return all((folder / name).is_file() for name in (INDEX, ABOUT, MODEL))


def described(artifact: bytes) -> tuple[dict[str, Any], bytes]:
    """What the page needs to know of a file, for model.json, and a detector's anchors.

    The anchors are little-endian float32 (N, 4), ymin, xmin, ymax, xmax in pixels of the input; empty where
    the graph has them, and for a classifier.

    Raises EffkerasError for a file that is corrupt, not exported by effkeras, or not for a browser.
    """
    spec, sides = definition_of(artifact), interface(artifact)
    _check(artifact, spec, sides)
    roles = roles_of(artifact)
    outputs = [_output(one, roles.get(one.name, one.name)) for one in sides.outputs]
    about: dict[str, Any] = {
        "name": spec.name,
        "kind": "detector" if spec.detects else "classifier",
        "version": effkeras.__version__,
        "recipe": _recipe(artifact),
        "file": MODEL,
        "bytes": len(artifact),
        "classes": spec.classes,
        "labels": list(spec.labels),
        **_threshold(artifact),
        "input": {
            "name": sides.inputs[0].name,
            "dtype": sides.inputs[0].dtype,
            **{key: getattr(spec.input, key) for key in ("size", "mean", "resize", "crop")},
        },
        "outputs": outputs,
        "runtime": {"version": pinned().version, "licence": pinned().licence, "module": MODULE, "wasm": WASM},
    }
    if not spec.detects or any(one["holds"] == BOXES for one in outputs):
        return about, b""
    parts = {"nms": asdict(detector_parts(spec).nms), "anchors": _ANCHORS}
    return about | parts, anchor_boxes(spec).astype("<f4").tobytes()


def _check(artifact: bytes, spec: ModelSpec, sides: Interface) -> None:
    if is_compiled(artifact):
        raise EffkerasError(
            "the .tflite is compiled for an Edge TPU; give the file that it was compiled from"
        )
    if spec.is_detector and not spec.detects:
        raise EffkerasError(f"{spec.name} finds masks only; the page shows boxes and classes")
    for one in (*sides.inputs, *sides.outputs):
        if one.dtype not in _TYPES:
            raise EffkerasError(
                f"{one.name} of the .tflite is {one.dtype}, and LiteRT.js takes {' or '.join(_TYPES)}; "
                "export it with `--io float32`, which keeps the network itself in int8"
            )


def _output(one: IOTensor, holds: str) -> dict[str, Any]:
    # The runner takes the scale of uint8 outputs only: float outputs hold real numbers.
    scale = None if one.dtype == "float32" else one.scale
    return {"name": one.name, "holds": holds, "scale": scale, "zero_point": one.zero_point or 0}


def _threshold(artifact: bytes) -> dict[str, Any]:
    """The score from which boxes count, and where it comes from."""
    entry = attached(artifact, ENTRY)
    if entry is None:
        return {"min_score": DEFAULT, "threshold": None}
    kept = Threshold.from_bytes(entry)
    return {"min_score": kept.score, "threshold": asdict(kept)}


def _recipe(artifact: bytes) -> str:
    """The format that the file was converted to, such as int8; "" if it does not say."""
    text = attached(artifact, RECIPE)
    try:
        recipe = json.loads(text or b"{}")
    except (ValueError, RecursionError):
        return ""
    return str(recipe.get("name", "")) if isinstance(recipe, dict) else ""


def _sample_names(samples: Sequence[Path]) -> dict[Path, str]:
    """A path in the page's folder for each image. Raises EffkerasError for a file that no browser shows."""
    names: dict[Path, str] = {}
    for number, path in enumerate(dict.fromkeys(samples), start=1):
        if not path.is_file() or not is_image(path):
            raise EffkerasError(f"{path} is no image file; give images, or folders of them, with --examples")
        if path.suffix.lower() not in _SHOWN:
            raise EffkerasError(f"{path}: not every browser shows {path.suffix}; convert it to JPEG or PNG")
        # A number in place of the name, which may need escapes in an address, or tell what it should not.
        names[path] = f"{_SAMPLES}/{number}{path.suffix.lower()}"
    return names


def _write_assets(folder: Path, title: str) -> None:
    for asset in files("export.web").joinpath("assets").iterdir():
        content = asset.read_bytes()
        if asset.name == INDEX:
            content = _filled(content.decode(), title).encode()
        (folder / asset.name).write_bytes(content)


def _filled(template: str, title: str) -> str:
    """The page's HTML. The hash lets the import map pass the page's own policy against inline scripts."""
    digest = base64.b64encode(hashlib.sha256(_IMPORTS.encode()).digest()).decode()
    values = {"TITLE": html.escape(title), "IMPORTS": _IMPORTS, "IMPORTS_HASH": f"sha256-{digest}"}
    return string.Template(template).substitute(values)
