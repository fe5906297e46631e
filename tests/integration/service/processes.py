"""A service in processes of their own: a worker with the key, and servers that have none."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import httpx

from coordinator import Coordinator
from coordinator.chain.signers.opening import load_signer
from coordinator.config import load_settings
from coordinator.ledger.audit.host_key import HostKey
from coordinator.wiring import wire
from tests.integration.local_chain import LocalChain
from tests.integration.world import POLICY

_SERVING: Final = re.compile(r"serving (http://\S+) for")
_WATCHED: Final = re.compile(r"metrics (http://\S+)")
START_SECONDS: Final = 60


class Service:
    """One treasury on a chain; ``worker`` and ``serve`` start processes that end with the test."""

    def __init__(self, chain: LocalChain, folder: Path, database_url: str) -> None:
        self.chain = chain
        self.folder = folder
        self._processes = ExitStack()
        self._heard: dict[int, Heard] = {}
        key = "0x" + secrets.token_hex(32)
        self.treasury = load_signer("env:KEY", {"KEY": key}).address
        policy = folder / "policy.toml"
        policy.write_text(
            POLICY.format(
                provider=chain.provider, other_provider=chain.other_provider, settle="after_window"
            )
        )
        shared = {
            "COORDINATOR_RPC_URL": chain.url,
            "COORDINATOR_DATABASE_URL": database_url,
            "COORDINATOR_DEPLOYMENTS_FOLDER": str(chain.folder),
            "COORDINATOR_POLICY_FILE": str(policy),
            "COORDINATOR_ID_SECRET": secrets.token_hex(32),
        }
        self.acting = shared | {
            "COORDINATOR_STATE_FOLDER": str(folder / "worker-state"),
            "TREASURY_PRIVATE_KEY": key,
        }
        self.deciding = shared | {
            "COORDINATOR_STATE_FOLDER": str(folder / "server-state"),
            "COORDINATOR_SIGNER": f"address:{self.treasury}",
            "COORDINATOR_HOST_NAME": "server",
        }
        self.certify("server", folder / "server-state")

    def run(
        self, *arguments: str, acting: bool = True, code: int | None = 0, **settings: str
    ) -> Any:
        """Run one command, which ends with ``code``, if any is given; its JSON."""
        environment = (self.acting if acting else self.deciding) | settings
        done = subprocess.run(
            [sys.executable, "-m", "coordinator", *arguments, "--json"],
            env=_child(environment),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
            check=False,
        )
        assert code in (None, done.returncode), done.stdout + done.stderr
        return json.loads(done.stdout)

    @contextmanager
    def opened(self) -> Iterator[Coordinator]:
        """The same treasury in this process, which decides and does not act."""
        environment = self.acting
        with Coordinator(wire(environment, load_settings(environment)), act=False) as coordinator:
            yield coordinator

    def key(self, role: str, name: str, *more: str) -> str:
        """A new API key's token."""
        token: str = self.run("keys", "create", f"--{role}", name, *more)["token"]
        return token

    def certify(self, name: str, state: Path) -> None:
        """Let the host with this state folder decide, as its operator does."""
        key = HostKey.load(state / "decider.hostkey").public_key
        with self.opened() as treasury:
            w = treasury.claimed
            w.hosts.add(name, key, by="olga", now=w.clock())

    def worker(self) -> subprocess.Popen[str]:
        return self._start("worker", environment=self.acting)[0]

    def watched_worker(self) -> tuple[subprocess.Popen[str], str]:
        """A worker, and the URL of its metrics."""
        return self._start("worker", "--metrics-port", "0", environment=self.acting, says=_WATCHED)

    def serve(self, *arguments: str, **settings: str) -> tuple[subprocess.Popen[str], str]:
        """A server without a key, and its URL."""
        process, told = self._start(
            "serve", "--port", "0", *arguments, environment=self.deciding | settings, says=_SERVING
        )
        return process, told

    def start(self, *arguments: str, environment: Mapping[str, str]) -> subprocess.Popen[str]:
        """A server or worker in this environment."""
        says = _SERVING if arguments[0] == "serve" else re.compile("worker (for)")
        return self._start(*arguments, environment=environment, says=says)[0]

    def close(self) -> None:
        self._processes.close()

    def _start(
        self,
        *arguments: str,
        environment: Mapping[str, str],
        says: re.Pattern[str] = re.compile("worker (for)"),
    ) -> tuple[subprocess.Popen[str], str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "coordinator", *arguments],
            env=_child(environment),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        heard = self._heard[process.pid] = Heard(process)
        self._processes.enter_context(_ended(process, heard))
        return process, heard.wait_for(says)

    def heard(self, process: subprocess.Popen[str]) -> Heard:
        """What the process has written to stderr."""
        return self._heard[process.pid]


class Heard:
    """What a process writes to stderr, read all the time: a full pipe would stop it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._lines: list[str] = []
        self._ended = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    @property
    def text(self) -> str:
        with self._changed:
            return "".join(self._lines)

    def wait_for(self, says: re.Pattern[str]) -> str:
        """The first group of the first match; AssertionError when the process ends without one."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._ended or says.search("".join(self._lines)), START_SECONDS
            )
        found = says.search(self.text)
        assert found, f"{self._process.args} did not say {says.pattern}: {self.text}"
        return found[1]

    def end(self) -> None:
        self._thread.join(START_SECONDS)

    def _read(self) -> None:
        assert self._process.stderr
        for line in self._process.stderr:
            with self._changed:
                self._lines.append(line)
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()


@contextmanager
def _ended(process: subprocess.Popen[str], heard: Heard) -> Iterator[None]:
    yield
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(timeout=30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    heard.end()
    assert process.stderr
    process.stderr.close()


def _child(environment: Mapping[str, str]) -> dict[str, str]:
    others = {
        k: v for k, v in os.environ.items() if not k.startswith(("COORDINATOR_", "TREASURY_"))
    }
    return others | dict(environment)


def client(url: str, token: str | None = None) -> httpx.Client:
    """A plain HTTP client with this key."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return httpx.Client(base_url=url, headers=headers, timeout=60, trust_env=False)
