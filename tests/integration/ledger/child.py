"""What the tests let other processes do with a database: ``python -m … NAME JSON``.

Each says "ready" once everything is imported, waits for a line, and prints JSON lines.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import platform
import resource
import sqlite3
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from coordinator.api.coordinator import Coordinator
from coordinator.domain.errors import CoordinatorError
from coordinator.ledger.proofs.verification import verify
from coordinator.ledger.store.database import Database
from coordinator.ledger.store.migrate import migrate
from coordinator.ledger.store.opening import open_database
from tests.integration.ledger.deciding import append, ask, contents, open_coordinator, policy
from tests.integration.ledger.nursery import Nursery, serve

ROOT = Path(__file__).resolve().parents[3]
NOBODY = 65534


class Child:
    """A child process as the test sees it."""

    def __init__(self, name: str, *wrapper: str, **terms: Any) -> None:
        self.process: Any
        if not wrapper:
            self.process = _nursery().start(name, terms)
            return
        self.process = subprocess.Popen(
            [*wrapper, sys.executable, "-m", __spec__.name, name, json.dumps(terms, default=str)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe:
                pipe.close()

    def says(self) -> Any:
        """Its next line; fails when it ended without one."""
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line, f"the child ended with {self.process.wait()} and said nothing"
        return json.loads(line)

    def go(self) -> Child:
        """Let it do the next thing."""
        assert self.process.stdin
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self

    def kill(self) -> list[Any]:
        """Kill it with SIGKILL; the whole lines that it had printed."""
        self.process.kill()
        self.process.wait()
        assert self.process.stdout
        return [json.loads(x) for x in self.process.stdout.read().split("\n")[:-1]]


@cache
def _nursery() -> Nursery:
    return Nursery(sys.executable, "-m", __spec__.name, "nursery", cwd=str(ROOT))


def run(name: str, *wrapper: str, **terms: Any) -> Any:
    """The one answer of a child that is let go at once."""
    with Child(name, *wrapper, **terms) as child:
        assert child.says() == "ready"
        return child.go().says()


def _say(value: Any) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def _next() -> None:
    sys.stdin.readline()


def _opened(database: str, **terms: Any) -> Coordinator:
    return open_coordinator(database, policy(terms.pop("changes", None)), **terms)


def _told(do: Callable[[], Any]) -> dict[str, Any]:
    """What became of it, or the error that a caller sees."""
    try:
        return {"done": do()}
    except CoordinatorError as fault:
        return {"error": type(fault).__name__, "message": str(fault)}


def buy(phases: list[dict[str, Any]]) -> None:
    """Ask ``count`` times in each phase; says how the answers are spread over statuses."""
    for phase in phases:
        coordinator = _opened(phase["database"], changes=phase["changes"])
        once = ask(coordinator.agent("dan"), idempotency_key="everybody's")
        spread: dict[str, int] = {}
        for _ in range(phase["count"]):
            for terms in phase["asks"]:
                asked = dict(terms)
                purchase = ask(coordinator.agent(asked.pop("agent")), **asked)
                name = f"{purchase.agent} {purchase.status}"
                spread[name] = spread.get(name, 0) + 1
        coordinator.close()
        _say({"spread": spread, "once": once.id})
        _next()


def make_files(databases: list[str]) -> None:
    """Make one fresh database after the other; says the errors that a caller would see.

    Whoever comes first does more work than those behind, so all stay together.
    """
    told = [
        _told(lambda path=path: _made(open_database(f"sqlite:///{path}"))) for path in databases
    ]
    _say([answer for answer in told if "error" in answer])


def _made(database: Database) -> None:
    with database.read() as connection:
        connection.exec_driver_sql("SELECT * FROM sqlite_master").all()
    with database.write() as connection:
        connection.exec_driver_sql("CREATE TABLE IF NOT EXISTS made (id INTEGER)")
    database.close()


def migrate_it(database: str, scripts: str = "", head: str = "") -> None:
    """Migrate to the head of the scripts, else the program's own; says whether it did."""
    opened = open_database(database)
    terms: Any = {"scripts": Path(scripts), "head": head} if scripts else {}
    _say(_told(lambda: migrate(opened, **terms)))


def write_in_turns(database: str, count: int) -> None:
    """Write ``count`` times; says when each was asked for, begun and done."""
    coordinator = _opened(database, lock_timeout_seconds=60)
    turns = []
    _say("open")
    _next()
    for _ in range(count):
        asked = time.monotonic()
        with coordinator.wiring.database.write() as connection:
            begun = time.monotonic()
            for _ in range(20):
                append(coordinator.wiring, connection, 1, "paused", "organisation")
        turns.append((asked, begun, time.monotonic()))
    _say(turns)
    _next()


def spend(
    coordinator: Coordinator, amount: str, asks: list[dict[str, str]], *, first: int
) -> Counter[str]:
    """Ask for each of ``asks`` once, a purchase and a cost in turn; how many were admitted."""
    admitted: Counter[str] = Counter()
    for number in range(first, first + len(asks)):
        terms = dict(asks[number % len(asks)])
        agent = coordinator.agent(terms.pop("agent"))
        if number % 2:
            admitted["purchase"] += not ask(agent, amount, **terms).denied
        else:
            admitted["cost"] += agent.hold(amount, **terms).ok
    return admitted


def spend_in_turn(
    database: str, changes: dict[str, Any], amount: str, asks: list[dict[str, str]], first: int
) -> None:
    """Ask for everything four times; says how many purchases and costs were admitted."""
    coordinator = _opened(database, changes=changes)
    admitted: Counter[str] = Counter()
    for turn in range(4):
        admitted += spend(coordinator, amount, asks, first=first + turn)
    coordinator.close()
    _say(admitted)


def buy_until_killed(database: str, threads: int) -> None:
    """Ask from several threads for ever; says each id once it was answered."""
    coordinator = _opened(database)
    turn = threading.Lock()

    def loop() -> None:
        while True:
            purchase = ask(coordinator.agent("ada"), "60.00")
            told = {"id": purchase.id, "status": purchase.status}
            if coordinator.approve(purchase.approval_id or "", approver="alice").done:
                told["status"] = "approved"
            with turn:
                _say(told)

    for _ in range(threads):
        threading.Thread(target=loop).start()


def cancel(database: str, purchase_id: str) -> None:
    """Cancel the purchase; says its status."""
    coordinator = _opened(database)
    coordinator.cancel(purchase_id, by="alice")
    _say(coordinator.get(purchase_id).status.value)
    _next()


def hold_lock(database: str) -> None:
    """Hold the lock file of a writer until told."""
    file = os.open(f"{database}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(file, fcntl.LOCK_EX)
    _say("locked")
    _next()
    os.close(file)
    _say("free")
    _next()


def hold_transaction(database: str) -> None:
    """Hold SQLite's own write lock until told, as a shell on the file would."""
    connection = sqlite3.connect(database, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    _say("locked")
    _next()
    connection.execute("ROLLBACK")
    connection.close()
    _say("free")
    _next()


def ask_as_nobody(database: str) -> None:
    """Ask once as a user whom file permissions bind."""
    _import_everything()
    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    _say(_told(lambda: ask(_opened(database).agent("ada")).status))


def ask_on_full_disk(database: str, size_max: int) -> None:
    """Ask until no file may grow above ``size_max``; then without that limit."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_max, resource.RLIM_INFINITY))
    answers = _ask_until_refused(database)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    _say({**answers, "after": _told(lambda: ask(_opened(database).agent("ada")).status)})


def ask_while_syncs_fail(database: str) -> None:
    """Ask once, and again while every fsync of this process fails, with the same key."""
    agent = _opened(database).agent("ada")
    first = _told(lambda: ask(agent).status)
    if not _syncs_fail():
        _say("no filter")
        return
    lost = [_told(lambda: ask(agent, "2.00", idempotency_key="lost").id) for _ in range(2)]
    _say({"first": first, "lost": lost})
    _next()


def _syncs_fail() -> bool:
    """Let the kernel answer fsync and fdatasync with EIO; False where it has no such filter."""
    numbers = {"x86_64": (74, 75), "aarch64": (82, 83)}.get(platform.machine())
    if numbers is None or sys.platform != "linux":
        return False
    load_number, jump_if_equal, answer = 0x20, 0x15, 0x06
    allow, refuse = 0x7FFF0000, 0x00050000 | errno.EIO
    program = b"".join(
        struct.pack("HBBI", *line)
        for line in (
            (load_number, 0, 0, 0),
            (jump_if_equal, 2, 0, numbers[0]),
            (jump_if_equal, 1, 0, numbers[1]),
            (answer, 0, 0, allow),
            (answer, 0, 0, refuse),
        )
    )
    lines = ctypes.create_string_buffer(program)
    # struct sock_fprog: how many lines, and where they are.
    whole = struct.pack("HP", len(program) // 8, ctypes.addressof(lines))
    libc = ctypes.CDLL(None)
    no_new_privileges, set_filter, by_program = 38, 22, 2
    return (
        libc.prctl(no_new_privileges, 1, 0, 0, 0) == 0
        and libc.prctl(set_filter, by_program, ctypes.create_string_buffer(whole), 0, 0) == 0
    )


def ask_on_small_disk(folder: str, size_kib: int) -> None:
    """Ask on a file system of ``size_kib`` until it is full; then with room again.

    For a mount namespace of its own.
    """
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size_kib}k", "tmpfs", folder]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        _say("no mount")
        return
    ballast = Path(folder, "ballast")
    ballast.write_bytes(b"x" * 64 * 1024)
    database = f"{folder}/coordinator.db"
    answers = _ask_until_refused(database)
    ballast.unlink()
    again = _opened(database)
    after = _told(lambda: ask(again.agent("ada")).status)
    faults = verify(again.wiring.audit).faults
    _say({**answers, "after": after, "faults": faults, "rows": contents(database)})


def _ask_until_refused(database: str) -> dict[str, Any]:
    ids: list[str] = []
    told = _told(lambda: _opened(database))
    if "error" in told:
        return {"ids": ids, "first": told, "second": _told(lambda: _opened(database).get("pur_0"))}
    coordinator: Coordinator = told["done"]
    while "error" not in (told := _told(lambda: ask(coordinator.agent("ada")).id)):
        ids.append(told["done"])
    second = _told(lambda: ask(coordinator.agent("ada")).id)
    return {"ids": ids, "first": told, "second": second}


def _import_everything() -> None:
    # The code may lie where the next user can't read; migrating imports the last of it.
    scratch = Path(f"/tmp/coordinator-imports-{os.getpid()}.db")
    ask(_opened(str(scratch)).agent("ada"))
    for leftover in scratch.parent.glob(scratch.name + "*"):
        leftover.unlink()


def _work(name: str, terms: str) -> None:
    if name == "ask_as_nobody":
        _import_everything()
    _say("ready")
    _next()
    globals()[name](**json.loads(terms))


if __name__ == "__main__":
    if sys.argv[1] == "nursery":
        serve(int(sys.argv[2]), _work)
    else:
        _work(*sys.argv[1:])
