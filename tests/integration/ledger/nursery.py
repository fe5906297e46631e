"""Processes that need no second to import: forks of one that has, with pipes of their own."""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any


class Forked:
    """A process as ``subprocess`` would show it."""

    def __init__(self, nursery: Nursery, pid: int, stdin: int, stdout: int) -> None:
        self._nursery = nursery
        self._ended: int | None = None
        self.pid = pid
        self.stdin = os.fdopen(stdin, "w")
        self.stdout = os.fdopen(stdout)

    def kill(self) -> None:
        if self._ended is None:
            os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> int:
        """Its exit code, or minus the signal that ended it."""
        if self._ended is None:
            self._ended = self._nursery.ask({"wait": self.pid})
        return self._ended


class Nursery:
    """The process that forks; it opens no database and starts no thread."""

    def __init__(self, *command: str, cwd: str) -> None:
        self._ours, theirs = socket.socketpair()
        self._asking = threading.Lock()
        self._process = subprocess.Popen(
            [*command, str(theirs.fileno())], cwd=cwd, pass_fds=[theirs.fileno()]
        )
        theirs.close()
        self._answers = self._ours.makefile()
        atexit.register(self.end)

    def start(self, name: str, terms: Mapping[str, Any]) -> Forked:
        (stdin, write), (read, stdout) = os.pipe(), os.pipe()
        pid = self.ask({"start": name, "terms": json.dumps(terms, default=str)}, [stdin, stdout])
        os.close(stdin)
        os.close(stdout)
        return Forked(self, pid, write, read)

    def ask(self, what: Mapping[str, Any], files: list[int] | None = None) -> int:
        with self._asking:
            # The length goes with the files: both arrive at once.
            message = json.dumps(what).encode()
            socket.send_fds(self._ours, [len(message).to_bytes(4, "big")], files or [])
            self._ours.sendall(message)
            return int(self._answers.readline())

    def end(self) -> None:
        self._answers.close()
        self._ours.close()
        self._process.wait()


def serve(number: int, work: Callable[[str, str], None]) -> None:
    """Fork for each that is asked for, until nobody can ask any more."""
    asking = socket.socket(fileno=number)
    while True:
        length, files, _, _ = socket.recv_fds(asking, 4, 2)
        if len(length) < 4:
            return
        message = b""
        while len(message) < int.from_bytes(length, "big"):
            message += asking.recv(int.from_bytes(length, "big") - len(message))
        asked = json.loads(message)
        if "wait" in asked:
            _, status = os.waitpid(asked["wait"], 0)
            asking.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))
            continue
        child = os.fork()
        if not child:
            asking.close()
            _be(asked["start"], asked["terms"], files, work)
        for file in files:
            os.close(file)
        asking.sendall(b"%d\n" % child)


def _be(name: str, terms: str, files: list[int], work: Callable[[str, str], None]) -> None:
    code = 1
    try:
        for place, file in enumerate(files):
            os.dup2(file, place)
            os.close(file)
        sys.stdin, sys.stdout = os.fdopen(0), os.fdopen(1, "w")
        work(name, terms)
        for thread in threading.enumerate():
            if thread is not threading.current_thread() and not thread.daemon:
                thread.join()
        code = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
