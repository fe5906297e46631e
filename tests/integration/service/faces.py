"""One agent through the Python API, the thin client and its async twin, called the same way."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import pytest

from coordinator import Coordinator
from coordinator_client import Agent, AsyncAgent
from tests.integration.service.processes import Service

NAME: Final = "research-agent"
PYTHON, CLIENT, ASYNC = "Python API", "client", "async client"
FACES: Final = (PYTHON, CLIENT, ASYNC)


class Awaited:
    """Calls an async object as if it were not: every coroutine is run to its end."""

    def __init__(self, inner: Any, runner: asyncio.Runner) -> None:
        self._inner, self._runner = inner, runner

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if inspect.isroutine(found):
            return lambda *args, **named: self._done(found(*args, **named))
        return self._done(found)

    def __enter__(self) -> Awaited:
        self._done(self._inner.__aenter__())
        return self

    def __exit__(self, *fault: Any) -> None:
        self._done(self._inner.__aexit__(*fault))

    def _done(self, found: Any) -> Any:
        if inspect.iscoroutine(found):
            found = self._runner.run(found)
        return Awaited(found, self._runner) if hasattr(found, "__aenter__") else found


@contextmanager
def opened(face: str, service: Service, url: str, token: str, **terms: Any) -> Iterator[Any]:
    """The agent of this face; the Python API decides in this process, without a key."""
    if face == CLIENT:
        with Agent(url, token, **terms) as agent:
            yield agent
    elif face == ASYNC:
        with (
            asyncio.Runner() as runner,
            Awaited(AsyncAgent(url, token, **terms), runner) as agent,
        ):
            yield agent
    else:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in service.deciding.items():
                patch.setenv(name, value)
            with Coordinator.from_env(act=False) as coordinator:
                yield coordinator.agent(NAME)
