"""Where a run's artifacts are kept."""

from __future__ import annotations

from pathlib import Path


def run_folder(source: str) -> Path | None:
    """The run folder that `source` is, if it is one."""
    path = Path(source)
    return path if (path / "model.keras").is_file() else None


def run_of_artifact(file: Path) -> Path | None:
    """The run folder that an artifact lies in (RUN/artifacts/FILE), if it does."""
    folder = file.resolve().parent
    run = folder.parent
    return run if folder.name == "artifacts" and (run / "model.keras").is_file() else None
