"""Looks for secrets where none may be: logs, what processes print, their command lines, files."""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from tests.integration.stores import all_rows, is_postgresql, tables


class Leaks:
    """Secrets to look for, and everything that was looked at."""

    def __init__(self) -> None:
        self._secrets: set[str] = set()
        self._folders: list[Path] = []
        self._databases: list[str] = []
        self._found: list[str] = []
        self.looked_at: set[str] = set()

    def guard(self, secrets: Iterable[str]) -> None:
        """Look for these secrets, given in hex with or without 0x, in every spelling."""
        self._secrets |= {secret.removeprefix("0x").lower() for secret in secrets}

    def watch(self, folder: Path, database: str = "") -> None:
        """Look into the folder's databases, and the tables of ``database`` if it is no file."""
        self._folders.append(folder)
        if is_postgresql(database):
            self._databases.append(database)

    def look_at(self, where: str, content: bytes | str) -> None:
        """Note every secret in the content, as text of any case or as the bytes that it means."""
        raw = content.encode(errors="surrogateescape") if isinstance(content, str) else content
        self.looked_at.add(where)
        lower = raw.lower()
        for secret in self._secrets:
            if secret.encode() in lower or bytes.fromhex(secret) in raw:
                self._found.append(where)

    def look_into_databases(self) -> None:
        """Look into the database files, what stands beside them, and backups."""
        for folder in self._folders:
            for path in sorted(folder.glob("*.db*")):
                self.look_at(path.name, path.read_bytes())

    def look_into_tables(self) -> None:
        """Look into every row of databases that are no files, while they are there."""
        for database in self._databases:
            names = tables(database)
            answers = all_rows(database, [f'SELECT * FROM "{name}"' for name in names])
            for name, found in zip(names, answers, strict=True):
                self.look_at(name, repr(found))

    def look_at_process(self, process: subprocess.Popen[str]) -> None:
        """Look at a process's command line, which everybody on the machine can read."""
        path = Path(f"/proc/{process.pid}/cmdline")
        if path.exists():
            self.look_at("command line", path.read_bytes())

    def check(self) -> None:
        """AssertionError when a secret was seen anywhere; it says where, never which."""
        assert not self._found, f"a secret was written to: {', '.join(sorted(set(self._found)))}"


@pytest.fixture(autouse=True)
def leaks(caplog: pytest.LogCaptureFixture) -> Iterator[Leaks]:
    """Whatever a test does, afterwards no secret is in logs, output, databases or command lines."""
    for name in ("coordinator", "urllib3", "web3"):
        caplog.set_level(logging.DEBUG, logger=name)
    leaks = Leaks()
    yield leaks
    leaks.look_into_databases()
    for when in ("setup", "call"):
        for record in caplog.get_records(when):  # type: ignore[arg-type]
            leaks.look_at("log", record.getMessage() + str(record.exc_text or ""))
    leaks.check()
