"""An endpoint that says when it may be asked again is asked nothing before, not even when alone."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from coordinator.chain.rpc.client import RateLimited, Rpc
from coordinator.domain.errors import ChainUnavailable


class Ticks:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Limited(BaseHTTPRequestHandler):
    """Answers ``server.status`` with Retry-After while ``server.wait`` says so, and counts."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked += 1  # type: ignore[attr-defined]
        wait = self.server.wait  # type: ignore[attr-defined]
        body = json.dumps([{"jsonrpc": "2.0", "id": item["id"], "result": "0x1"} for item in asked])
        if wait:
            body = '{"error": "too many requests"}'
        self.send_response(self.server.status if wait else 200)  # type: ignore[attr-defined]
        if wait:
            self.send_header("Retry-After", wait)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Limited) as made:
        made.asked, made.wait, made.status = 0, "", 429  # type: ignore[attr-defined]
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield made
        made.shutdown()


def rpc_of(*servers: ThreadingHTTPServer, ticks: Ticks) -> Rpc:
    urls = [f"http://127.0.0.1:{one.server_address[1]}" for one in servers]
    return Rpc(urls, ticks=ticks, sleep=lambda seconds: None)


@pytest.mark.parametrize("status", [429, 503])
def test_it_is_asked_nothing_before_the_time_that_it_told(
    server: ThreadingHTTPServer, status: int
) -> None:
    ticks = Ticks()
    server.status = status  # type: ignore[attr-defined]
    rpc = rpc_of(server, ticks=ticks)
    server.wait = "30"  # type: ignore[attr-defined]
    with pytest.raises(RateLimited, match="asked again in 30 s"):
        rpc.call("eth_blockNumber")
    assert server.asked == 1  # type: ignore[attr-defined]

    server.wait = ""  # type: ignore[attr-defined]
    ticks.now += 29
    for ask in (lambda: rpc.call("eth_blockNumber"), lambda: rpc.send([("eth_chainId", [])])):
        with pytest.raises(RateLimited):
            ask()
    assert server.asked == 1  # type: ignore[attr-defined]

    ticks.now += 1.5
    assert rpc.call("eth_blockNumber") == "0x1"


def test_the_other_endpoint_is_asked_meanwhile(server: ThreadingHTTPServer) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Limited) as other:
        other.asked, other.wait, other.status = 0, "", 429  # type: ignore[attr-defined]
        threading.Thread(target=other.serve_forever, daemon=True).start()
        server.wait = "30"  # type: ignore[attr-defined]
        rpc = rpc_of(server, other, ticks=Ticks())

        told = [rpc.call("eth_blockNumber") for _ in range(5)]

        assert told == ["0x1"] * 5
        assert (server.asked, other.asked) == (1, 5)  # type: ignore[attr-defined]
        other.shutdown()


def test_a_time_that_can_not_be_read_is_none(server: ThreadingHTTPServer) -> None:
    rpc = rpc_of(server, ticks=Ticks())
    server.wait = "soon"  # type: ignore[attr-defined]
    with pytest.raises(ChainUnavailable):
        rpc.call("eth_blockNumber")
    server.wait = ""  # type: ignore[attr-defined]
    assert rpc.call("eth_blockNumber") == "0x1"
