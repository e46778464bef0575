"""The wheel carries the zoo and works outside a checkout."""

from __future__ import annotations

import os
import shlex
import shutil
import site
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import lock
import pytest
import release
from support.pages import console_calls, python_blocks

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
        "export/py.typed",
        "quantize/py.typed",
        "effkeras/litert/model_schema.toml",
        "effkeras/search/reporting/templates/search.html.j2",
        "effkeras/search/spaces/digits-blocks.toml",
        "effkeras/litert/metadata/schema.toml",
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


PROJECT = '[project]\nrequires-python = ">=3.11"\ndependencies = ["rich>=14"]\n'
GOOD = f"{lock.first_line(PROJECT)}\nrich==15.0.0 ; python_version < '4' \\\n    --hash=sha256:0123\n"


def test_lint_sees_a_lock_that_is_not_of_the_dependencies():
    assert lock.problems(GOOD, PROJECT) == []
    assert lock.problems(GOOD, PROJECT.replace("14", "15")) == [lock.OLD]
    assert "has an address" in lock.problems(GOOD + "--index-url https://host/simple\n", PROJECT)[0]
    assert lock.problems(f"{GOOD}numpy==2.4.6\n", PROJECT) == [
        "requirements.lock has no version and hash for numpy==2.4.6"
    ]


@pytest.mark.nightly("packages")
def test_a_release_is_the_same_bytes_twice(tmp_path):
    assert release.main(tmp_path / "dist") == 0
    assert len((tmp_path / "dist" / "SHA256SUMS").read_text().splitlines()) == 2


@pytest.mark.nightly("packages")
@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_dependencies_resolve(python, tmp_path):
    """All extras, from the package index."""
    uv = shutil.which("uv")
    if uv is None:
        pytest.skip("uv is not installed")
    command = [uv, "pip", "compile", "--quiet", "--python-version", python, "--all-extras", "pyproject.toml"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    assert "\ntensorflow==" in done.stdout


@pytest.mark.nightly("packages")
def test_the_calls_of_the_front_page_work_where_only_the_wheel_is(wheel, tmp_path):
    """In an environment of its own, which borrows the dependencies of this one, far from the checkout."""
    home = tmp_path / "env"
    venv.create(home, symlinks=True)
    (packages,) = home.glob("lib/python*/site-packages")
    (packages / "borrowed.pth").write_text("".join(f"{folder}\n" for folder in site.getsitepackages()))
    target = ["--target", str(packages), str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", *target], check=True)
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    python = [str(home / "bin" / "python"), "-P"]

    def run(*words: str) -> str:
        done = subprocess.run([*python, *words], cwd=tmp_path, env=clean, stdout=subprocess.PIPE, check=True)
        return done.stdout.decode()

    assert str(packages) in run("-c", "import effkeras; print(effkeras.__file__)")
    for block in python_blocks("README.md"):
        assert "Functional" in run("-c", block)
    for call in console_calls("README.md"):
        program, *words = shlex.split(call.command)
        assert program == "effkeras"
        printed = run("-m", "effkeras", *words)
        assert call.output[-1].split()[0] in printed
