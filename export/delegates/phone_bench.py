"""`benchmark_model` on a phone: it and the files are put there, and it is called.

The flags and what they do: tensorflow/lite/tools/benchmark/README.md.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from effkeras.support.tables import read_toml
from export.delegates.accelerators import Accelerator, accelerators
from export.delegates.adb import Phone, PhoneError
from export.delegates.benchmark_log import BenchmarkLog, failed, read_log
from export.delegates.timing import Job

_PROPERTIES = Path(__file__).with_name("phone_properties.toml")


@dataclass(frozen=True, slots=True)
class Entry:
    """A job on the phone: how it runs, and where its file lies there."""

    job: Job
    accelerator: Accelerator
    remote: str

    def flags(self) -> list[str]:
        """What is the same in every call."""
        threads = [f"--num_threads={self.job.threads}"] if self.accelerator.takes_threads else []
        return [f"--graph={self.remote}", *threads, *self.accelerator.flags]


@dataclass(frozen=True, slots=True)
class Turn:
    """A part of the runs of a job: so many timed ones, so many before them."""

    runs: int
    warmup: int

    def flags(self) -> list[str]:
        """Without a least time: by default the tool runs for a second, however few runs are asked."""
        return [
            f"--num_runs={self.runs}",
            f"--warmup_runs={self.warmup}",
            "--min_secs=0",
            "--warmup_min_secs=0",
            "--report_peak_memory_footprint=true",
        ]


@dataclass(frozen=True, slots=True)
class Bench:
    """A phone with the benchmark in a folder of it, and what is known of the phone."""

    phone: Phone
    folder: str
    facts: Mapping[str, Any]

    @classmethod
    def prepare(cls, phone: Phone, folder: str, binary: Path) -> Bench:
        """Puts the benchmark into a folder of the phone. Raises PhoneError when that fails."""
        remote = f"{folder}/benchmark_model"
        phone.push(binary, remote)
        phone.run(["chmod", "755", remote], timeout=30)
        facts = {name: phone.property(key) for name, key in read_toml(_PROPERTIES).items()}
        return cls(phone, folder, {"phone": facts, "serial": phone.serial})

    def push(self, jobs: Sequence[Job]) -> list[Entry]:
        """The jobs with their files on the phone, each file once. Raises PhoneError when that fails."""
        ways = accelerators()
        places: dict[bytes, str] = {}
        for job in jobs:
            if job.flatbuffer not in places:
                places[job.flatbuffer] = f"{self.folder}/{len(places)}.tflite"
                self._push(job.flatbuffer, places[job.flatbuffer])
        return [Entry(job, ways[job.delegate], places[job.flatbuffer]) for job in jobs]

    def time(self, entry: Entry, turn: Turn) -> BenchmarkLog:
        """Runs a turn; a phone that went away is a log that says so."""
        return self._call([*entry.flags(), *turn.flags()])

    def profile(self, entry: Entry, turn: Turn) -> BenchmarkLog:
        """Runs a turn that tells what each operator takes, which costs time itself."""
        return self._call([*entry.flags(), *turn.flags(), "--enable_op_profiling=true"])

    def _push(self, content: bytes, remote: str) -> None:
        with tempfile.TemporaryDirectory(prefix="effkeras-") as folder:
            file = Path(folder, Path(remote).name)
            file.write_bytes(content)
            self.phone.push(file, remote)

    def _call(self, flags: Sequence[str]) -> BenchmarkLog:
        try:
            return read_log(self.phone.run([f"{self.folder}/benchmark_model", *flags]).said)
        except PhoneError as error:
            return failed(str(error))
