"""A proxy between a coordinator and its node that counts, in a process of its own.

    python -m tests.benchmarks.proxy http://127.0.0.1:PORT

It prints its port, and what it counted at each line that it reads; it ends with its input. Bytes
go through as they come, in both directions, so that it adds a fraction of a millisecond.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final
from urllib.parse import urlsplit

_ROOT: Final = Path(__file__).resolve().parents[2]
_HEAD_ENDS: Final = b"\r\n\r\n"
_LENGTH: Final = re.compile(rb"^content-length:\s*(\d+)\s*$", re.IGNORECASE | re.MULTILINE)
# Parameters are hex and tags: nothing in them looks like a method.
_METHOD: Final = re.compile(rb'"method"\s*:\s*"(\w+)"')


@dataclass(slots=True)
class Counts:
    """HTTP requests, and the JSON-RPC calls in them by method: each call of a batch is one."""

    requests: int = 0
    methods: Counter[str] = field(default_factory=Counter)

    @property
    def calls(self) -> int:
        return self.methods.total()

    def __sub__(self, before: Counts) -> Counts:
        """What came since ``before``."""
        return Counts(self.requests - before.requests, self.methods - before.methods)

    def as_dict(self) -> dict[str, Any]:
        by_method = dict(self.methods.most_common())
        return {"requests": self.requests, "calls": self.calls, "calls_by_method": by_method}


class Requests:
    """Finds the requests in the bytes of one connection, in whatever pieces they come."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self._read = bytearray()
        self._length: int | None = None

    def feed(self, data: bytes) -> None:
        self._read += data
        while self._one():
            pass

    def _one(self) -> bool:
        """Count a request that is here whole."""
        if self._length is None:
            head, ends, _ = self._read.partition(_HEAD_ENDS)
            if not ends:
                return False
            told = _LENGTH.search(head.replace(b"\r\n", b"\n"))
            self._length = int(told[1]) if told else 0
            del self._read[: len(head) + len(ends)]
        if len(self._read) < self._length:
            return False
        body = bytes(self._read[: self._length])
        del self._read[: self._length]
        self._length = None
        self._counts.requests += 1
        self._counts.methods.update(name.decode() for name in _METHOD.findall(body))
        return True


class _Answers(asyncio.Protocol):
    """The node's side of a connection."""

    def __init__(self, client: asyncio.Transport) -> None:
        self._client = client

    def data_received(self, data: bytes) -> None:
        self._client.write(data)

    def connection_lost(self, fault: Exception | None) -> None:
        self._client.close()


class _Asking(asyncio.Protocol):
    """The client's side: what comes before the node is reached is kept."""

    def __init__(self, host: str, port: int, counts: Counts) -> None:
        self._node_at = host, port
        self._requests = Requests(counts)
        self._kept = bytearray()
        self._node: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._client = transport
        self._reaching = asyncio.ensure_future(self._reach())

    async def _reach(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            self._node, _ = await loop.create_connection(
                lambda: _Answers(self._client), *self._node_at
            )
        except OSError:
            self._client.close()
            return
        self._node.write(bytes(self._kept))
        self._kept.clear()

    def data_received(self, data: bytes) -> None:
        if self._node is None:
            self._kept += data
        else:
            self._node.write(data)
        self._requests.feed(data)

    def connection_lost(self, fault: Exception | None) -> None:
        if self._node is not None:
            self._node.close()


async def serve(upstream: str) -> None:
    """Print the port; from then on answer each line of stdin with the counts, until its end."""
    loop, counts = asyncio.get_running_loop(), Counts()
    node = urlsplit(upstream)
    assert node.hostname and node.port
    host, port = node.hostname, node.port
    server = await loop.create_server(lambda: _Asking(host, port, counts), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while await lines.readline():
        told = {"requests": counts.requests, "methods": counts.methods}
        print(json.dumps(told), flush=True)
    server.close()


class CountingProxy:
    """A running proxy: ``url`` is asked in the node's place."""

    def __init__(self, upstream: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.proxy", upstream],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdin and self._process.stdout
        self._ask, self._told = self._process.stdin, self._process.stdout
        self.url = f"http://127.0.0.1:{int(self._told.readline())}"

    def counts(self) -> Counts:
        """What came through so far."""
        self._ask.write("\n")
        self._ask.flush()
        told = json.loads(self._told.readline())
        return Counts(told["requests"], Counter(told["methods"]))

    def close(self) -> None:
        self._ask.close()
        self._process.wait(timeout=10)
        self._told.close()

    def __enter__(self) -> CountingProxy:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
