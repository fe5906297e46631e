"""Statements that SQLAlchemy has compiled, shared by every engine of a test process.

An engine's own cache ends with it, and a test has engines of its own: to compile its statements
would take a third of the test.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Engine, event


class _Compiled(dict[Any, Any]):
    """SQLAlchemy's keys begin with the engine's dialect; all of one name make the same text."""

    def get(self, key: Any, default: Any = None) -> Any:
        return super().get(_shared(key), default)

    def __setitem__(self, key: Any, compiled: Any) -> None:
        super().__setitem__(_shared(key), compiled)


def _shared(key: tuple[Any, ...]) -> tuple[Any, ...]:
    dialect, *statement = key
    return (dialect.name, *statement)


COMPILED = _Compiled()


def share_compiled_statements() -> None:
    """From now on no engine of this process compiles what another has compiled."""

    @event.listens_for(Engine, "engine_connect")
    def _share(connection: Connection) -> None:
        connection.execution_options(compiled_cache=COMPILED)
