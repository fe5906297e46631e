"""Starts webhook receivers and reads what they were told."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

SCRIPT = Path(__file__).with_name("receiver.py")


class Receiver:
    """One receiver's process; ``url`` and a path is what a webhook is registered with."""

    def __init__(self, *, port: int = 0, certificate: Path | None = None) -> None:
        tls = ["--tls", str(certificate)] if certificate else []
        self._process = subprocess.Popen(
            [sys.executable, str(SCRIPT), str(port), *tls], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout
        self.port = int(self._process.stdout.readline())
        self.url = f"{'https://localhost' if certificate else 'http://127.0.0.1'}:{self.port}"
        self._http = httpx.Client(
            base_url=self.url.replace("localhost", "127.0.0.1"),
            trust_env=False,
            verify=False,
            timeout=30,
        )

    def knows(self, *secrets: str) -> None:
        """Verify with these secrets from now on."""
        self._http.post("/secrets", json=secrets).raise_for_status()

    def told(self, count: int = 0) -> list[dict[str, Any]]:
        """The deliveries so far, once there are ``count``."""
        found: list[dict[str, Any]] = self._http.get("/told", params={"count": count}).json()
        assert len(found) >= count, found
        return found

    def stop(self) -> None:
        self._http.close()
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


@contextmanager
def receiving(*, port: int = 0, certificate: Path | None = None) -> Iterator[Receiver]:
    """A receiver within the block."""
    made = Receiver(port=port, certificate=certificate)
    try:
        yield made
    finally:
        made.stop()


def types_of(found: list[dict[str, Any]]) -> list[str]:
    return [one["body"]["type"] for one in found]


def ids_of(found: list[dict[str, Any]]) -> list[str]:
    return [one["id"] for one in found]
