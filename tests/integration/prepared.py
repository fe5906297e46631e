"""Programs in processes of their own that need no second to import: forks of one that waits."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

_SERVER = """
import json, os, sys
import web3, eth_account
from coordinator import Coordinator
from coordinator.chain.actp import chain
from coordinator.ledger.store import migrate, opening
for line in sys.stdin:
    asked = json.loads(line)
    child = os.fork()
    if not child:
        for number, path in ((1, "out"), (2, "errors")):
            os.dup2(os.open(asked[path], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
        os.close(0)
        os.chdir(asked["folder"])
        os.environ.clear()
        os.environ.update(asked["environment"])
        sys.argv = ["program", *asked["arguments"]]
        code = 1
        try:
            exec(asked["program"], {"__name__": "__main__"})
            code = 0
        except BaseException:
            import traceback
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""


class Prepared:
    """Has imported what programs need, opened nothing, and forks for each of them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-c", _SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(
        self,
        program: str,
        *arguments: str,
        environment: Mapping[str, str],
        folder: Path,
        timeout_seconds: float,
    ) -> tuple[int, str]:
        """Run it to its end: (exit code or minus the signal, everything that it printed)."""
        out, errors = self._folder / "out", self._folder / "errors"
        asked = {"program": program, "arguments": arguments, "folder": str(folder)}
        asked |= {"environment": dict(environment), "out": str(out), "errors": str(errors)}
        assert self.process.stdin and self.process.stdout
        print(json.dumps(asked), file=self.process.stdin, flush=True)
        ready, _, _ = select.select([self.process.stdout], [], [], timeout_seconds)
        assert ready, f"not ended after {timeout_seconds} s: {errors.read_text()[-2000:]}"
        code = int(self.process.stdout.readline())
        return code, out.read_text() + errors.read_text()

    def end(self) -> None:
        """End it and what it runs."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()


@contextmanager
def prepared(folder: Path) -> Iterator[Prepared]:
    made = Prepared(folder)
    try:
        yield made
    finally:
        made.end()
