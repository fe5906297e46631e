"""Databases of earlier schemas, with the rows that an earlier version would have written."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, MetaData, func, select, text

from coordinator.ledger.store import migrate as migrations
from coordinator.ledger.store.database import Database
from coordinator.ledger.store.opening import open_database

_DAY = 86_400


def make_at(revision: str, url: str) -> Database:
    """An empty database as the migrations up to ``revision`` leave it."""
    opened = open_database(url)
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent / "migrations"))
    with opened.write() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    return opened


def copy_into(target: Database, source: str) -> dict[str, int]:
    """Write every row into the tables that the target has; how many each has.

    Counters and charges become those of the day and the total of organisation, agent and category,
    which were all before 0003; days are those of UTC.
    """
    copied = {}
    opened = open_database(source)
    with opened.read() as old, target.write() as new:
        metadata = MetaData()
        metadata.reflect(new)
        charges = list(_charges(old))
        made = {"hold_charges": charges, "counters": _counters(old, charges)}
        for table in metadata.sorted_tables:
            if table.name == "alembic_version":
                continue
            columns = ", ".join(f'"{column.name}"' for column in table.columns)
            found = made.get(table.name)
            if found is None:
                query = text(f'SELECT {columns} FROM "{table.name}"')
                found = [dict(row) for row in old.execute(query).mappings()]
            copied[table.name] = len(found)
            if found:
                new.execute(table.insert(), found)
        if target.many_hosts:
            _go_on_counting(new, metadata)
    opened.close()
    return copied


def _charges(connection: Connection) -> Iterator[dict[str, Any]]:
    holds = connection.execute(
        text(
            "SELECT h.id, h.kind, h.placed_at, p.agent, p.category FROM holds h"
            " JOIN purchases p ON p.id = h.purchase_id"
        )
    )
    for hold in holds:
        scopes = [("organisation", "")]
        if hold.kind == "purchase":
            scopes += [("agent", hold.agent), ("category", hold.category)]
        for kind, of in scopes:
            for window, start in (("daily", hold.placed_at // _DAY * _DAY), ("total", 0)):
                if of is not None:
                    yield {
                        "hold_id": hold.id,
                        "scope_kind": kind,
                        "scope_id": of,
                        "window": window,
                        "start": start,
                    }


def _counters(connection: Connection, charges: list[dict[str, Any]]) -> list[dict[str, Any]]:
    holds = {
        row.id: (row.amount if row.status == "held" else 0, row.posted)
        for row in connection.execute(text("SELECT id, amount, status, posted FROM holds"))
    }
    sums: dict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0, 0])
    for charge in charges:
        key = tuple(charge[name] for name in ("scope_kind", "scope_id", "window", "start"))
        for index, amount in enumerate(holds[charge["hold_id"]]):
            sums[key][index] += amount
    names = ("scope_kind", "scope_id", "window", "start", "held", "spent")
    return [dict(zip(names, (*key, *used), strict=True)) for key, used in sums.items()]


def _go_on_counting(connection: Connection, metadata: MetaData) -> None:
    for table in metadata.sorted_tables:
        for column in table.primary_key.columns:
            named = func.pg_get_serial_sequence(table.name, column.name)
            sequence = connection.execute(select(named)).scalar()
            last = connection.execute(select(func.max(column))).scalar()
            if sequence is not None and last is not None:
                connection.execute(select(func.setval(sequence, last)))


def in_columns_of(
    earlier: dict[str, list[tuple[Any, ...]]], later: dict[str, list[tuple[Any, ...]]]
) -> dict[str, list[tuple[Any, ...]]]:
    """The later rows without the columns that an upgrade has added behind the others."""
    widths = {name: len(rows[0]) for name, rows in earlier.items() if rows}
    return {
        name: sorted((row[: widths.get(name)] for row in later[name]), key=repr) for name in earlier
    }
