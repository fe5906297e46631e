"""Real processes with the stage's environment, killed by signal and looked at for secrets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from coordinator.demo.stage import Stage
from tests.chaos.leaks import Leaks

_OPEN = """
import json, sys, threading
from coordinator import Coordinator
terms = json.loads(sys.argv[1])
def say(value):
    print(json.dumps(value), flush=True)
"""


class Process:
    """One process; what it prints is kept in files, so that it never waits for a reader."""

    def __init__(self, stage: Stage, leaks: Leaks, program: str, terms: dict[str, Any]) -> None:
        folder = stage.folder / "processes"
        folder.mkdir(exist_ok=True)
        number = len(list(folder.iterdir()))
        self._said, self._errors = folder / f"{number}.out", folder / f"{number}.err"
        with self._said.open("wb") as out, self._errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _OPEN + program, json.dumps(terms)],
                env={**os.environ, **stage.environment, "COORDINATOR_LOG_LEVEL": "DEBUG"},
                cwd=stage.folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=errors,
                text=True,
            )
        self._leaks = leaks
        leaks.look_at_process(self.process)

    @property
    def pid(self) -> int:
        return self.process.pid

    def said(self) -> list[Any]:
        """The whole lines that it has printed."""
        return [json.loads(line) for line in self._said.read_text().split("\n")[:-1]]

    def errors(self) -> str:
        return self._errors.read_text()

    def kill(self) -> None:
        """SIGKILL, and wait for its end."""
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        """Kill it if it runs, and look at all that it printed."""
        self._leaks.look_at_process(self.process)
        self.kill()
        for path in (self._said, self._errors):
            self._leaks.look_at(f"output of process {path.name}", path.read_bytes())


class Processes:
    """The processes of one test."""

    def __init__(self, stage: Stage, leaks: Leaks) -> None:
        self._stage = stage
        self._leaks = leaks
        self.started: list[Process] = []

    def start(self, program: str, **terms: Any) -> Process:
        process = Process(self._stage, self._leaks, program, terms)
        self.started.append(process)
        return process


@contextmanager
def processes(stage: Stage, leaks: Leaks) -> Iterator[Processes]:
    """Ends every process that was started, and looks for the stage's secrets in their output."""
    names = ("TREASURY_PRIVATE_KEY", "COORDINATOR_ID_SECRET")
    leaks.guard(stage.environment[name] for name in names)
    leaks.watch(Path(stage.folder))
    running = Processes(stage, leaks)
    try:
        yield running
    finally:
        for process in running.started:
            process.end()
        leaks.look_into_databases()
