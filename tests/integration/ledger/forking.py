"""Forked children of a test, which answer through a pipe and never run the test's own end."""

from __future__ import annotations

import json
import os
import select
import signal
import warnings
from collections.abc import Callable
from typing import Any

from coordinator.domain.errors import CoordinatorError


class Forked:
    """A child that runs ``do`` and ends; what it returns or raises is its answer."""

    def __init__(self, do: Callable[[], Any]) -> None:
        self._from_child, to_parent = os.pipe()
        with warnings.catch_warnings():
            # Later Pythons warn of threads.
            warnings.simplefilter("ignore", DeprecationWarning)
            self.pid = os.fork()
        if self.pid == 0:
            try:
                answer = _told(do)
                os.write(to_parent, json.dumps(answer).encode())
            finally:
                os._exit(0)
        os.close(to_parent)

    def answer(self, *, within_seconds: float = 60) -> Any:
        """What ``do`` returned, or the name and text of its error; fails when nothing came."""
        ready, _, _ = select.select([self._from_child], [], [], within_seconds)
        if not ready:
            os.kill(self.pid, signal.SIGKILL)
        said = b""
        while part := os.read(self._from_child, 65_536):
            said += part
        os.close(self._from_child)
        os.waitpid(self.pid, 0)
        assert ready, f"the child said nothing within {within_seconds} s"
        return json.loads(said)


def _told(do: Callable[[], Any]) -> Any:
    try:
        return do()
    except CoordinatorError as fault:
        return [type(fault).__name__, str(fault)]
    except BaseException as fault:
        return ["unforeseen", repr(fault)]
