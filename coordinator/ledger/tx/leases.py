"""One executor a signer: a lease in the database, with a token that fences what it commits."""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Select, insert, select, update

from coordinator.domain.errors import LeaseLost
from coordinator.domain.ports import Ticks
from coordinator.ledger.store import schema as t
from coordinator.ledger.store.database import Database


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to act for one signer; ``token`` grows with every takeover."""

    name: str
    holder: str
    token: int


@dataclass(frozen=True, slots=True)
class LeaseHolder:
    """The lease's holder; ``alive`` if it has not run out and its process is not known dead."""

    holder: str
    host: str
    pid: int
    alive: bool


class LeaseBook:
    """The lease of one signer on one chain, by the database's clock unless ``now_ms`` is given.

    A lease that is not renewed is believed for its own length at most, counted from the first look
    at it, however far off a clock that stepped back makes its end.
    """

    def __init__(
        self,
        database: Database,
        *,
        chain_id: int,
        signer: str,
        now_ms: Callable[[], int] | None = None,
        ticks: Ticks = time.monotonic,
        kind: str = "executor",
    ) -> None:
        self._database = database
        self._given_clock = now_ms
        self._name = f"{kind}:{chain_id}:{signer}"
        self._host = _host()
        self._ticks = ticks
        # The lease of another as it was first seen: what it says, then when by both clocks.
        self._seen: tuple[Any, float, int] | None = None
        # Who had it when it was last asked for here.
        self._held_by: str | None = None

    def acquire(self, holder: str, *, seconds: int) -> Lease | None:
        """Take or renew the lease for ``seconds``; None while another live holder has it.

        A holder on this host whose process is gone is taken over at once.
        """
        # Waiting for another's lease to end must not keep the writers of decisions waiting.
        if self._held_by != holder and self._is_others(holder):
            return None
        lease = self._take(holder, seconds)
        self._held_by = lease.holder if lease is not None else None
        return lease

    def _is_others(self, holder: str) -> bool:
        with self._database.read() as connection:
            row = connection.execute(self._row()).one_or_none()
            return row is not None and row.holder != holder and self._believed(connection, row)

    def _row(self) -> Select[Any]:
        return select(t.leases).where(t.leases.c.name == self._name)

    def _take(self, holder: str, seconds: int) -> Lease | None:
        name = self._name
        with self._database.write() as connection:
            row = connection.execute(self._row()).one_or_none()
            values = {
                "holder": holder,
                "host": self._host,
                "pid": os.getpid(),
                "expires_at_ms": self._now_ms(connection) + seconds * 1000,
                "seconds": seconds,
            }
            if row is None:
                connection.execute(insert(t.leases).values(name=name, token=1, **values))
                return Lease(name, holder, 1)
            if row.holder != holder and self._believed(connection, row):
                return None
            token = row.token if row.holder == holder else row.token + 1
            connection.execute(
                update(t.leases).where(t.leases.c.name == name).values(token=token, **values)
            )
            return Lease(name, holder, token)

    def release(self, lease: Lease) -> None:
        """Let another process act at once."""
        with self._database.write() as connection:
            connection.execute(
                update(t.leases)
                .where(t.leases.c.name == lease.name, t.leases.c.token == lease.token)
                .values(expires_at_ms=0)
            )

    def present(self) -> LeaseHolder | None:
        """Return the present or last holder of the signer's lease."""
        with self._database.read() as connection:
            row = connection.execute(self._row()).one_or_none()
            if row is None:
                return None
            left_ms = row.expires_at_ms - self._now_ms(connection)
            # Nothing waits here to see whether a lease with a far-off end is renewed.
            alive = left_ms <= row.seconds * 1000 and self._alive(connection, row)
        return LeaseHolder(row.holder, row.host, row.pid, alive)

    def _now_ms(self, connection: Connection) -> int:
        return self._given_clock() if self._given_clock else self._database.now_ms(connection)

    def _believed(self, connection: Connection, row: Any) -> bool:
        """Whether the lease of another holds: alive, and not seen unchanged for its length."""
        if not self._alive(connection, row):
            return False
        says, now_ms = (row.holder, row.token, row.expires_at_ms), self._now_ms(connection)
        if self._seen is None or self._seen[0] != says:
            self._seen = (says, self._ticks(), now_ms)
        _, first_ticks, first_ms = self._seen
        unchanged = max(self._ticks() - first_ticks, (now_ms - first_ms) / 1000)
        return bool(unchanged < row.seconds)

    def _alive(self, connection: Connection, row: Any) -> bool:
        if row.expires_at_ms <= self._now_ms(connection):
            return False
        return not (row.host == self._host and not _process_exists(row.pid))


def fence(connection: Connection, lease: Lease) -> None:
    """LeaseLost when the lease was taken over, in the transaction that is to be fenced."""
    query = select(t.leases.c.token).where(t.leases.c.name == lease.name)
    if connection.execute(query).scalar() != lease.token:
        raise LeaseLost("another executor acts for this signer; nothing was written or sent")


def new_holder() -> str:
    """A name for one executor, never used twice."""
    return f"exe_{secrets.token_hex(8)}"


def _host() -> str:
    # A pid means something only within one boot and one pid namespace.
    parts = [socket.gethostname()]
    for path in ("/proc/sys/kernel/random/boot_id",):
        if Path(path).exists():
            parts.append(Path(path).read_text().strip())
    namespace = Path("/proc/self/ns/pid")
    if namespace.exists():
        parts.append(os.readlink(namespace))
    return "/".join(parts)


def _process_exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
