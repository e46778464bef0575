"""The wheel carries the zoo and works outside a checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import effkeras

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return next(out.glob("*.whl"))


def test_wheel_holds_packages_and_zoo(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    for name in (
        "effkeras/_zoo/efficientdet/d0.toml",
        "effkeras/_zoo/efficientdet/digits.keras",
        "effkeras/definitions/imagenet.tsv",
        "effkeras/support/pages/templates/page.html.j2",
        "effkeras/py.typed",
        "effkeras/litert/model_schema.toml",
        "effkeras/search/reporting/templates/search.html.j2",
        "effkeras/search/spaces/digits-blocks.toml",
        "export/metadata/schema.toml",
        "export/reporting/templates/report.html.j2",
        "export/tflite.py",
        "export/web/assets/index.html",
        "export/web/runtime.toml",
        "quantize/formats.toml",
    ):
        assert name in names
    assert not [name for name in names if name.startswith(("tests/", "models/"))]


@pytest.mark.slow
def test_wheel_works_outside_the_checkout(wheel, tmp_path):
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    code = (
        "import effkeras, effkeras.definitions.zoo\n"
        "print(effkeras.definitions.zoo.zoo_folder())\n"
        "print(effkeras.list_models())\n"
        "print(effkeras.build('efficientdet-digits', weights='digits').count_params())"
    )
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    folder, models, parameters = done.stdout.splitlines()
    assert Path(folder) == site / "effkeras" / "_zoo"
    assert models == str(effkeras.list_models())
    assert parameters == "302238"
