"""Read rows of the audit log together with what proves them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import Connection, Select, bindparam, literal_column, or_, select

from coordinator.ledger.store import schema as t
from coordinator.ledger.store.prepared import Prepared

BEFORE: Final = t.audit.alias("before")


def proof_rows(
    connection: Connection,
    subjects: tuple[str, ...],
    events: tuple[str, ...],
    newest: int | None,
    hosts: bool,
) -> Sequence[Sequence[Any]]:
    """Read rows, each with the hash of the one before; with ``hosts`` their certificates too."""
    if len(subjects) > 1:
        query = _proof_query(True, events, newest, hosts)
        return connection.execute(query, {"subjects": subjects}).all()
    named = {"subject_": subjects[0]} if subjects else {}
    return _small_proof(bool(subjects), events, newest, hosts).rows(connection, named)


@lru_cache(maxsize=64)
def _small_proof(one: bool, events: tuple[str, ...], newest: int | None, hosts: bool) -> Prepared:
    query = _proof_query(False, events, newest, hosts)
    return Prepared(query.where(t.audit.c.subject == bindparam("subject_")) if one else query)


@lru_cache(maxsize=64)
def _proof_query(
    some: bool, events: tuple[str, ...], newest: int | None, hosts: bool
) -> Select[Any]:
    """Build the query once for each form of it."""
    c = t.audit.c
    query = select(t.audit, BEFORE.c.hash).outerjoin(BEFORE, BEFORE.c.seq == c.seq - 1)
    if hosts:
        query = query.add_columns(t.hosts.c.certificate, t.hosts.c.revocation)
        query = query.outerjoin(t.hosts, t.hosts.c.id == c.host)
    if some:
        query = query.where(c.subject.in_(bindparam("subjects", expanding=True)))
    if events:
        # Literally: an index of some events alone is used only where the text names them.
        query = query.where(or_(*(c.event == literal_column(f"'{e}'") for e in events)))
    return query.order_by(c.seq.desc() if newest else c.seq).limit(newest)
