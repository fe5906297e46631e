"""A person at a terminal: the installed command on a pty, and what is typed into it."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

_SECONDS = 60
_STYLE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
# So that ctrl-c reaches the command.
_TAKE_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
    " os.execv(sys.argv[1], sys.argv[1:])"
)


@dataclass
class Person:
    """Reads what the command shows, and types."""

    process: subprocess.Popen[bytes]
    handle: int
    shown: str = ""
    _seen: int = field(default=0)

    def sees(self, text: str) -> str:
        """Wait until ``text`` is shown after what was waited for before; return all up to it."""
        until = time.monotonic() + _SECONDS
        while text not in self.shown[self._seen :]:
            assert time.monotonic() < until, self.shown
            if not self._read(0.5) and self.process.poll() is not None:
                raise AssertionError(self.shown)
        start, self._seen = self._seen, self.shown.index(text, self._seen) + len(text)
        return self.shown[start : self._seen]

    def types(self, line: str) -> None:
        os.write(self.handle, f"{line}\n".encode())

    def types_unseen(self, line: str) -> None:
        """Type once the terminal shows no more what is typed: what comes before is thrown away."""
        until = time.monotonic() + _SECONDS
        while termios.tcgetattr(self.handle)[3] & termios.ECHO:
            assert time.monotonic() < until, self.shown
            self._read(0.02)
        self.types(line)

    def interrupts(self) -> None:
        """Press ctrl-c."""
        os.write(self.handle, b"\x03")

    def ends(self) -> int:
        """Wait for the command's end; return its exit code."""
        until = time.monotonic() + _SECONDS
        while self.process.poll() is None:
            assert time.monotonic() < until, self.shown
            self._read(0.1)
        while self._read(0):
            pass
        return self.process.returncode

    def _read(self, seconds: float) -> bool:
        if not select.select([self.handle], [], [], seconds)[0]:
            return False
        try:
            said = os.read(self.handle, 65_536)
        except OSError:  # the other end is closed
            return False
        self.shown += _STYLE.sub("", said.decode(errors="replace").replace("\r\n", "\n"))
        return bool(said)


@contextmanager
def at_a_terminal(
    command: Sequence[str | Path], *, folder: Path, environment: Mapping[str, str]
) -> Iterator[Person]:
    """Run the command on a terminal of its own; it is ended at the latest with the block."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", _TAKE_TERMINAL, *map(str, command)],
        cwd=folder,
        env={**environment, "TERM": "xterm", "NO_COLOR": "1"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        yield Person(process, ours)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
