"""Android phones through `adb`, the Android Debug Bridge: list them, copy files and run commands."""

from __future__ import annotations

import os
import re
import secrets
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from effkeras.support.errors import EffkerasError
from effkeras.support.tables import read_toml

COMMAND = "adb"
HOW_TO_GET = (
    "install adb (apt-get install adb, or https://developer.android.com/tools/releases/platform-tools), "
    "switch on USB debugging in the phone's developer options and plug it in"
)
# The only folder of a phone where adb may write files and run them.
REMOTE = "/data/local/tmp"
_STATES = Path(__file__).with_name("phone_states.toml")
_MARK = "effkeras-exit:"
_MODEL = re.compile(r"\bmodel:(\S+)")


class PhoneError(EffkerasError):
    """The phone cannot be used: adb, the connection or a command fails."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A line of `adb devices -l`."""

    serial: str
    state: str
    model: str = ""

    def __str__(self) -> str:
        return f"{self.serial} ({self.model or self.state})"


@dataclass(frozen=True, slots=True)
class Ran:
    """Output of a command on the phone (stdout and stderr together) and its exit code."""

    output: str
    code: int


@dataclass(frozen=True, slots=True)
class Phone:
    """A connected phone that accepts commands."""

    adb: str
    serial: str

    def push(self, file: Path, to: str) -> None:
        """Copies a file to the phone. Raises PhoneError when that fails, for example when it is full."""
        done = _call([self.adb, "-s", self.serial, "push", str(file), to], timeout=300)
        if done.returncode != 0:
            raise PhoneError(f"adb cannot copy {file} to {to}: {_reason(done.stdout)}")

    def run(self, words: Sequence[str], timeout: int = 600) -> Ran:
        """Runs a command. Raises PhoneError when the phone is gone, or after `timeout` seconds.

        The phone's shell prints the exit code, because adb does not return it before Android 7.
        """
        line = f"{shlex.join(words)} 2>&1; echo {_MARK}$?"
        done = _call([self.adb, "-s", self.serial, "shell", line], timeout)
        text, mark, code = done.stdout.replace("\r", "").rpartition(_MARK)
        if not mark or not code.strip().isdigit():
            raise PhoneError(f"the phone {self.serial} does not answer: {_reason(done.stdout)}")
        return Ran(text, int(code))

    def property(self, name: str) -> str:
        """A system property, such as ro.product.model; "" when there is none."""
        return self.run(["getprop", name], timeout=30).output.strip()

    @contextmanager
    def folder(self) -> Iterator[str]:
        """A new folder on the phone, removed at the end if the phone is still connected."""
        path = f"{REMOTE}/effkeras-{secrets.token_hex(4)}"
        made = self.run(["mkdir", path], timeout=30)
        if made.code != 0:
            raise PhoneError(f"cannot make the folder {path} on the phone: {_reason(made.output)}")
        try:
            yield path
        finally:
            with suppress(PhoneError):
                self.run(["rm", "-r", path], timeout=60)


def find_phone(serial: str | None = None) -> Phone:
    """The phone with this serial number or that of $ANDROID_SERIAL, or else the only one that is ready.

    Raises PhoneError, with what to do, when there is no such phone or more than one.
    """
    adb = shutil.which(COMMAND)
    if adb is None:
        raise PhoneError(f"{COMMAND} is not installed; {HOW_TO_GET}")
    listed = list_phones(adb)
    return Phone(adb, _chosen(listed, serial or os.environ.get("ANDROID_SERIAL")).serial)


def list_phones(adb: str) -> list[Listed]:
    """All phones that adb lists. Raises PhoneError when adb itself fails."""
    done = _call([adb, "devices", "-l"], timeout=60)
    if done.returncode != 0:
        raise PhoneError(f"adb fails: {_reason(done.stdout)}; try `adb kill-server`")
    return [found for line in done.stdout.splitlines() if (found := _listed(line))]


def _listed(line: str) -> Listed | None:
    """Parses `SERIAL  device product:... model:...`; messages of the adb daemon begin with a star."""
    serial, _, rest = line.strip().partition(" ") if "\t" not in line else line.strip().partition("\t")
    if not rest or line.startswith(("*", "List of devices", "adb", "error")):
        return None
    state = "no permissions" if rest.strip().startswith("no permissions") else rest.split()[0]
    model = _MODEL.search(rest)
    return Listed(serial, state, model[1].replace("_", " ") if model else "")


def _chosen(listed: Sequence[Listed], serial: str | None) -> Listed:
    if serial is not None:
        listed = _with_serial(listed, serial)
    ready = [one for one in listed if one.state == "device"]
    if len(ready) == 1:
        return ready[0]
    if ready:
        names = ", ".join(map(str, ready))
        raise PhoneError(f"{len(ready)} phones are connected: {names}; choose one with --adb SERIAL")
    if not listed:
        raise PhoneError(f"no phone is connected; {HOW_TO_GET}")
    raise PhoneError(_remedy(listed[0]))


def _with_serial(listed: Sequence[Listed], serial: str) -> list[Listed]:
    found = [one for one in listed if one.serial == serial]
    if not found:
        seen = ", ".join(map(str, listed)) or "none"
        raise PhoneError(f"the phone {serial} is not connected; adb sees: {seen}")
    return found


def _remedy(phone: Listed) -> str:
    remedies = read_toml(_STATES)["remedies"]
    remedy = remedies.get(phone.state, "wait until it has started, or plug it in again")
    return f"the phone {phone.serial} is not ready ({phone.state}): {remedy}"


def _call(words: Sequence[str], timeout: int) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise PhoneError(f"adb does not answer within {timeout} s; plug the phone in again") from error
    except OSError as error:
        raise PhoneError(f"cannot start {words[0]}: {error.strerror}") from error


def _reason(text: str) -> str:
    """The first line of adb's error message, without "adb:" or "error:"; more lines of advice may follow."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    own = [line for line in lines if line.startswith(("adb: ", "error: "))]
    return re.sub(r"^(adb: |error: )+", "", (own or lines[-1:] or ["it printed nothing"])[0])
