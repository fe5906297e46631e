"""A server's environment and memory hold no key of the treasury's or of the worker's host."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.service.processes import Service, client

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
_PIECE = 1 << 20


def holds(pid: int, secret: bytes) -> bool:
    """Whether the process has these bytes in its environment or in memory that it may write."""
    environment = Path(f"/proc/{pid}/environ").read_bytes()
    return secret in environment or any(secret in piece for piece in _memory(pid, len(secret)))


def _memory(pid: int, overlap: int) -> Iterator[bytes]:
    maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in maps:
            span, rights, *_ = line.split()
            start, end = (int(one, 16) for one in span.split("-"))
            if not rights.startswith("rw"):
                continue
            for at in range(start, end, _PIECE):
                try:
                    memory.seek(at)
                    yield memory.read(min(_PIECE + overlap, end - at))
                except (OSError, ValueError):
                    break


def forms(key: str) -> list[bytes]:
    """The key as text and as bytes."""
    digits = key.removeprefix("0x")
    return [digits.encode(), bytes.fromhex(digits)]


def test_a_server_that_decided_what_a_worker_funded_knows_no_key(service: Service) -> None:
    key = service.acting["TREASURY_PRIVATE_KEY"]
    token = service.key("agent", "research-agent")
    worker = service.worker()
    server, url = service.serve()
    with client(url, token) as http:
        told = http.post(
            "/v1/purchases",
            params={"wait": "funded", "timeout": 30},
            headers={"Idempotency-Key": "papers-1"},
            json={"provider": "paper-api", "amount": "25.00", "purpose": "Paper access"},
        )
        purchase = told.json()
        assert (purchase["status"], purchase["agent"]) == ("funded", "research-agent")
        again = http.get(f"/v1/purchases/{purchase['purchase_id']}").json()
        assert again["escrow_id"] == purchase["escrow_id"]
    assert service.run("reconcile")["discrepancies"] == []

    assert any(holds(worker.pid, form) for form in forms(key))
    assert not any(holds(server.pid, form) for form in forms(key))
    # The search finds what is there.
    assert holds(server.pid, service.deciding["COORDINATOR_ID_SECRET"].encode())
