"""Prepared statements of decisions: compiled once, run on the driver."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any, Final, TypeVar

from sqlalchemy import ClauseElement, Connection, Insert
from sqlalchemy.engine import Dialect

Row = Sequence[Any]
# SQLite takes 32,766 values in a statement.
_ROWS_MAX: Final = 64
# In what SQLAlchemy keeps of a connection: statements that wait to be sent with the commit.
WAITING: Final = "waiting"
# Whatever fails undoes its whole transaction: SQLite need not copy every page that a statement
# changes, to undo that statement alone.
OR_FAIL: Final = "OR FAIL"

T = TypeVar("T")
# The text, the names of its values in their order, and the values that are always the same.
_Compiled = tuple[str, tuple[str, ...], Mapping[str, Any]]


def in_powers_of_two(rows: Sequence[T], *, most: int) -> Iterator[Sequence[T]]:
    """The rows in parts of ``most``, ... 2, 1: to write several at once with few texts to prepare.

    The driver gives other threads way at every statement, and getting back in costs more than a
    row does.
    """
    done = 0
    while done < len(rows):
        count = min(most, 1 << (len(rows) - done).bit_length() - 1)
        yield rows[done : done + count]
        done += count


def send(connection: Connection, text: str, *rows: Sequence[Any]) -> None:
    """Run a statement that answers nothing for each row of its values.

    It waits where all statements are sent with the commit.
    """
    waiting = connection.info.get(WAITING)
    raw: Any = connection.connection.dbapi_connection
    if waiting is not None:
        waiting += [(text, row) for row in rows]
    elif len(rows) == 1:
        raw.execute(text, rows[0])
    elif rows:
        raw.cursor().executemany(text, rows)


def batched(values: Iterable[T], most: int) -> Iterator[tuple[T, ...]]:
    """Yield the values in their order, ``most`` at a time."""
    left = iter(values)
    while part := tuple(islice(left, most)):
        yield part


class Prepared:
    """One statement for every dialect; SQLAlchemy makes its text, the driver runs it.

    A decision takes a dozen statements, and SQLAlchemy's own execution would cost more than the
    database's. Values are those of SQL: nothing is converted. Of an insert ``columns`` are given.
    """

    def __init__(self, statement: ClauseElement, *columns: str) -> None:
        # An insert gives back only what it is asked for.
        if isinstance(statement, Insert):
            statement = statement.inline().prefix_with(OR_FAIL, dialect="sqlite")
        self._statement = statement
        self._columns = list(columns) or None
        self._compiled: dict[str, _Compiled] = {}

    def rows(self, connection: Connection, values: Mapping[str, Any] | None = None) -> list[Row]:
        """Every row that the statement answers."""
        text, order, constants = self._text(connection.dialect)
        raw: Any = connection.connection.dbapi_connection
        given = _ordered(order, constants, values or {})
        found: list[Row] = raw.execute(text, given).fetchall()
        return found

    def one(self, connection: Connection, values: Mapping[str, Any] | None = None) -> Row | None:
        """The first row, or None."""
        text, order, constants = self._text(connection.dialect)
        raw: Any = connection.connection.dbapi_connection
        given = _ordered(order, constants, values or {})
        found: Row | None = raw.execute(text, given).fetchone()
        return found

    def each(self, connection: Connection, values: Iterable[Mapping[str, Any]]) -> None:
        """Run it once for each of ``values``.

        Several rows of an insert that ends with its values are one statement.
        """
        text, order, constants = self._text(connection.dialect)
        rows = [_ordered(order, constants, row) for row in values]
        head, inserts, row = text.partition(" VALUES ")
        if len(rows) > 1 and inserts and row.count("(") == 1 and row.endswith(")"):
            for part in in_powers_of_two(rows, most=_ROWS_MAX):
                several = f"{head} VALUES {', '.join([row] * len(part))}"
                send(connection, several, tuple(chain(*part)))
        else:
            send(connection, text, *rows)

    def _text(self, dialect: Dialect) -> _Compiled:
        known = self._compiled.get(dialect.name)
        if known is None:
            insert = isinstance(self._statement, Insert)
            compiled: Any = self._statement.compile(
                dialect=dialect, column_keys=self._columns if insert else None
            )
            # Where the driver takes names, they become marks in the order of the text.
            order = tuple(compiled.positiontup or _names_in(str(compiled)))
            text = _marked(str(compiled))
            # What SQLAlchemy itself puts in, such as the offset of a limit, numbered as it comes:
            # the same name is another value in another dialect.
            constants = {k: v for k, v in compiled.params.items() if v is not None}
            known = self._compiled[dialect.name] = (text, order, constants)
        return known


def _ordered(
    order: Sequence[str], constants: Mapping[str, Any], values: Mapping[str, Any]
) -> tuple[Any, ...]:
    given = {**constants, **values} if constants else values
    return tuple([given[name] for name in order])


def _names_in(text: str) -> Iterable[str]:
    for part in text.split("%(")[1:]:
        yield part.partition(")s")[0]


def _marked(text: str) -> str:
    first, *parts = text.split("%(")
    return first + "".join("%s" + part.partition(")s")[2] for part in parts)
