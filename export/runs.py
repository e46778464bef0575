"""Finds the run folder of a source or of an artifact."""

from __future__ import annotations

from pathlib import Path


def run_folder(source: str) -> Path | None:
    """`source` as a path if it is a run folder, else None."""
    path = Path(source)
    return path if (path / "model.keras").is_file() else None


def run_of_artifact(file: Path) -> Path | None:
    """The run folder of an artifact at RUN/artifacts/FILE; None if it is elsewhere."""
    folder = file.resolve().parent
    run = folder.parent
    return run if folder.name == "artifacts" and (run / "model.keras").is_file() else None
