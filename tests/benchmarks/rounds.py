"""The measurement: durable decisions with few and many callers, after none and many purchases."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.benchmarks.console import Tell
from tests.benchmarks.course import course, prepare, spell, warm_up
from tests.benchmarks.databases import open_postgresql, sync_from_now_on
from tests.benchmarks.figures import Case, Round
from tests.benchmarks.history import fill
from tests.benchmarks.lived import Lived, live_one
from tests.benchmarks.machine import bare_insert_ms, fdatasync_per_second
from tests.integration.stores import (
    PostgresqlStore,
    SqliteStore,
    Store,
    file_of,
    name_of,
)

_ROOT: Final = Path(__file__).resolve().parents[2]
_EMPTY: Final = 0
# Of the time that is left, what opening, copying and the last decisions of a spell may take.
_SPELLS_SHARE: Final = 0.7


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to measure; with ``seconds_in_all`` as much of it as fits."""

    folder: Path
    databases: Sequence[str]
    histories: Sequence[int]
    callers: Sequence[int]
    rounds: int
    # Of one spell: a history with a number of callers.
    seconds: float
    seconds_in_all: float | None = None
    # The share of the time in all that may be gone when the databases are filled.
    fill_share: float = 0.4


@dataclass(slots=True)
class Measured:
    """What came of a plan."""

    rounds: list[Round]
    histories: list[int]
    limits_touched: int
    memory_mb: dict[str, float]


class _Bench:
    """The databases: one for each history that is not 0, and a fresh one for 0 in each round."""

    def __init__(self, plan: Plan, stores: Sequence[Store], folder: Path, tell: Tell) -> None:
        self.plan = plan
        self.stores = stores
        self.folder = folder
        self.tell = tell
        self.base = {store.kind: store.make(store.url("base")) for store in stores}
        self.bare = {store.kind: store.make(store.url("bare")) for store in stores}
        self.filled: dict[tuple[str, int], str] = {}
        self.limits_touched = 0
        for url in self.base.values():
            prepare(url)

    def fill(self, until: float | None) -> list[int]:
        """Make the pasts; how many purchases each has, 0 and up."""
        lived, found = live_one(), {_EMPTY}
        for store in self.stores:
            for wanted in self.plan.histories:
                if wanted != _EMPTY:
                    count = self._filled(store, lived, wanted, until)
                    found.add(count)
            if isinstance(store, PostgresqlStore):
                sync_from_now_on(store.server)
        return sorted(found)

    def _filled(self, store: Store, lived: Lived, wanted: int, until: float | None) -> int:
        url = store.copy(self.base[store.kind], f"past{wanted}")
        began = time.monotonic()
        count = fill(
            url,
            lived,
            wanted,
            until=until,
            tell=lambda done: self.tell(f"{store.kind}: {done:,} so far"),
        )
        self.filled[store.kind, count] = url
        took = time.monotonic() - began
        self.tell(f"{store.kind}: {count:,} earlier purchases made in {took:.1f} s")
        return count

    def round(self, number: int, seconds: float) -> Round:
        """Measure everything once; every other round begins with the longest history."""
        found = Round()
        for store in self.stores:
            inserts = found.bare_insert_ms[store.kind] = []
            past = [(n, url) for (kind, n), url in self.filled.items() if kind == store.kind]
            empty = store.copy(self.base[store.kind], f"empty{number}")
            for history, url in sorted([(_EMPTY, empty), *past], reverse=number % 2 == 1):
                # Beside each, for a disk may be quick in one second and slow in the next.
                found.fdatasync_per_second.append(fdatasync_per_second(self.folder, seconds))
                inserts.append(bare_insert_ms(self.bare[store.kind], seconds))
                with course(url) as coordinator:
                    self.limits_touched = warm_up(coordinator)
                    for callers in self.plan.callers:
                        case = Case(store.kind, history, callers)
                        found.samples[case] = spell(coordinator, callers=callers, seconds=seconds)
            _drop(store, empty)
        return found

    def rounds(self, until: float | None) -> list[Round]:
        """Rounds until there are enough, or the next would end after ``until``; at least one."""
        seconds = self.plan.seconds
        if until is not None:
            histories = len(self.filled) + len(self.stores)
            cases = histories * (len(self.plan.callers) + 2)
            left = max(0.0, until - time.monotonic())
            fits = left * _SPELLS_SHARE / (self.plan.rounds * cases)
            seconds = min(seconds, max(0.05, fits))
        made: list[Round] = []
        longest = 0.0
        while len(made) < self.plan.rounds:
            began = time.monotonic()
            if made and until is not None and began + longest > until:
                break
            made.append(self.round(len(made), seconds))
            longest = max(longest, time.monotonic() - began)
            self.tell(f"round {len(made)} of {self.plan.rounds}: {time.monotonic() - began:.1f} s")
        return made

    def memory_mb(self, decisions: int) -> dict[str, float]:
        """By database: how much more a process holds that decides after the longest history."""
        found = {}
        for store in self.stores:
            empty = store.copy(self.base[store.kind], "empty")
            longest = max(n for kind, n in self.filled if kind == store.kind)
            of_full = resident_mb(self.filled[store.kind, longest], decisions)
            found[store.kind] = round(of_full - resident_mb(empty, decisions), 1)
            self.tell(f"{store.kind}: {found[store.kind]:+.1f} MB of memory from 0 to {longest:,}")
        return found


def run(plan: Plan, tell: Tell, *, memory_decisions: int = 0) -> Measured:
    """Carry out the plan in a folder of its own, which is gone afterwards."""
    began = time.monotonic()
    fill_until = finish_at = None
    if plan.seconds_in_all is not None:
        finish_at = began + plan.seconds_in_all
        fill_until = began + plan.seconds_in_all * plan.fill_share
    plan.folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        made = tempfile.TemporaryDirectory(prefix="bench-", dir=plan.folder)
        folder = Path(stack.enter_context(made))
        stores: list[Store] = []
        for kind in plan.databases:
            if kind == "sqlite":
                stores.append(SqliteStore(folder, folder / "none"))
            else:
                stores.append(stack.enter_context(open_postgresql(plan.folder)))
        bench = _Bench(plan, stores, folder, tell)
        histories = bench.fill(fill_until)
        rounds = bench.rounds(finish_at)
        memory = bench.memory_mb(memory_decisions) if memory_decisions else {}
        return Measured(rounds, histories, bench.limits_touched, memory)


def _drop(store: Store, url: str) -> None:
    if isinstance(store, PostgresqlStore):
        store.server.drop(name_of(url))
        return
    file = file_of(url)
    for part in file.parent.glob(f"{file.name}*"):
        part.unlink()


def resident_mb(url: str, decisions: int) -> float:
    """What a process of its own holds in memory after so many decisions on the database."""
    command = [sys.executable, "-m", "tests.benchmarks.resident", url, str(decisions)]
    done = subprocess.run(command, cwd=_ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout)


def run_peer(folder: Path, payments: Sequence[int], seconds: float) -> dict[str, Any] | None:
    """What the peer's own Python says of it; None where its environment was not made."""
    python = _ROOT / ".venv-agentpay" / "bin" / "python"
    if not python.exists():
        return None
    listed = ",".join(str(count) for count in payments)
    script = Path(__file__).with_name("peer.py")
    command: list[str | Path] = [python, script, "--payments", listed, "--seconds", str(seconds)]
    with tempfile.TemporaryDirectory(prefix="bench-peer-", dir=folder) as own:
        command += ["--folder", own]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found
