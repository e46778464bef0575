"""A phone and `adb` as a script: devices in every state, files that are copied, commands that run in a shell.

What it prints is what adb 35 prints; before Android 7 (`old`) adb gives no exit code of the phone's commands.
The benchmark is a script as well, which prints logs of the real tool.
"""

from __future__ import annotations

import json
import stat
import sys
from pathlib import Path

LOGS = Path(__file__).parents[1] / "export" / "delegates" / "logs"

READY = "device usb:1-1 product:oriole model:Pixel_6 device:oriole transport_id:1"
REFUSALS = {
    "offline": "adb: device offline",
    "unauthorized": "adb: device unauthorized.\n"
    "This adb server's $ADB_VENDOR_KEYS is not set\n"
    "Try 'adb kill-server' if that seems wrong.\n"
    "Otherwise check for a confirmation dialog on your device.",
}
PROPERTIES = {"ro.product.model": "Pixel 6", "ro.build.version.release": "14", "ro.soc.model": "Tensor"}

_ADB = """
import json, os, pathlib, shutil, subprocess, sys
words, home = sys.argv[1:], pathlib.Path({home!r})
settings = json.loads((home / "settings.json").read_text())
devices, refusals = settings["devices"], settings["refusals"]
tmp = "/data/local/tmp"

def stop(said, code=1):
    print(said, file=sys.stderr)
    sys.exit(code)

if words[:1] == ["devices"]:
    print("* daemon not running; starting now at tcp:5037\\n* daemon started successfully", file=sys.stderr)
    print("List of devices attached")
    for serial, state in devices.items():
        print(f"{{serial:<22}} {{state}}")
    print()
    sys.exit(0)
if words[:1] != ["-s"]:
    stop("adb: more than one device/emulator" if len(devices) > 1 else "adb: usage: ...")
serial, verb, rest = words[1], words[2], words[3:]
if serial not in devices:
    stop(f"adb: device '{{serial}}' not found")
state = devices[serial].split()[0]
if state != "device":
    stop(refusals.get(state, f"adb: {{state}}"))
with (home / "calls.jsonl").open("a") as calls:
    calls.write(json.dumps([verb, *rest]) + "\\n")
gone = settings["gone_after"]
if gone is not None and len((home / "calls.jsonl").read_text().splitlines()) > gone:
    stop(f"adb: device '{{serial}}' not found")
on_phone = lambda text: text.replace(tmp, str(home / "tmp"))
if verb == "push":
    source, target = map(pathlib.Path, (rest[0], on_phone(rest[1])))
    if not source.exists():
        stop(f"adb: error: cannot stat '{{source}}': No such file or directory")
    if settings["full"]:
        print(f"{{source}}: 0 files pushed, 0 skipped.")
        stop(f"adb: error: failed to copy '{{source}}' to '{{rest[1]}}': remote No space left on device")
    shutil.copyfile(source, target)
    print(f"{{source}}: 1 file pushed, 0 skipped. 25.5 MB/s ({{source.stat().st_size}} bytes in 0.203s)")
elif verb == "shell":
    path = f"{{home / 'bin'}}:{{os.environ['PATH']}}"
    done = subprocess.run(
        ["/bin/sh", "-c", on_phone(" ".join(rest))], env={{**os.environ, "PATH": path}}, capture_output=True
    )
    sys.stdout.buffer.write(done.stdout.replace(b"\\n", b"\\r\\n" if settings["old"] else b"\\n"))
    sys.stderr.buffer.write(done.stderr)
    sys.exit(0 if settings["old"] else done.returncode)
"""

_BENCHMARK = """
import pathlib, sys
logs = {logs!r}
graph = next((word[8:] for word in sys.argv if word.startswith("--graph=")), "")
if not pathlib.Path(graph).is_file() or pathlib.Path(graph).read_bytes()[4:8] != b"TFL3":
    print(f"ERROR: Could not open '{{graph}}'.\\nERROR: Failed to load model {{graph}}", file=sys.stderr)
    print("ERROR: Benchmarking failed.", file=sys.stderr)
    sys.exit(1)
name = next(log for flag, log in logs.items() if flag in sys.argv or not flag)
said = pathlib.Path({folder!r}, f"{{name}}.txt").read_text()
print(said, end="")
sys.exit(1 if "Benchmarking failed" in said else 0)
"""


class FakePhones:
    """The script, in a folder of its own; `calls` is what came as far as a phone."""

    def __init__(self, home: Path) -> None:
        self.home = home
        for name in ("tmp", "bin"):
            (home / name).mkdir(parents=True)
        self.settings = {
            "devices": {"14151FDF6": READY},
            "refusals": REFUSALS,
            "old": False,
            "full": False,
            "gone_after": None,
        }
        self.set()
        (home / "calls.jsonl").touch()
        script(home / "path" / "adb", _ADB.format(home=str(home)))
        script(home / "bin" / "getprop", f"import sys\nprint({PROPERTIES!r}.get(sys.argv[1], ''))")

    def set(self, **changes: object) -> None:
        self.settings.update(changes)
        (self.home / "settings.json").write_text(json.dumps(self.settings))

    @property
    def calls(self) -> list[list[str]]:
        return [json.loads(line) for line in (self.home / "calls.jsonl").read_text().splitlines()]

    @property
    def benchmarks(self) -> list[str]:
        """The command lines of the benchmark, in order."""
        return [words[-1] for words in self.calls if words[0] == "shell" and "--graph=" in words[-1]]

    @property
    def left(self) -> list[Path]:
        """What still lies on the phone."""
        return list((self.home / "tmp").iterdir())


def script(file: Path, body: str) -> Path:
    file.parent.mkdir(exist_ok=True)
    file.write_text(f"#!{sys.executable}\n{body}")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return file


def benchmark(file: Path, **logs: str) -> Path:
    """A benchmark_model whose log depends on a flag: xnnpack="2.8-profile"; `other` is for all others."""
    by_flag = {"" if flag == "other" else f"--use_{flag}=true": name for flag, name in logs.items()}
    return script(file, _BENCHMARK.format(logs=by_flag, folder=str(LOGS)))
