"""An HTTP server before a node: it forwards JSON-RPC, and answers wrongly where a plan says so.

Nothing is random: a fault happens at the n-th request that its plan is for, or at all of them.
"""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import urlsplit

Item = dict[str, Any]
Items = list[Item]
Forward = Callable[[Items], Items]
Wanted = Callable[[Item], bool]

SEND: Final = "eth_sendRawTransaction"
LOGS: Final = "eth_getLogs"
RECEIPT: Final = "eth_getTransactionReceipt"
_FORWARD_SECONDS: Final = 30
_SILENCE_SECONDS: Final = 60


@dataclass(frozen=True, slots=True)
class Reply:
    """What goes back over HTTP; ``status`` 0 closes the connection without an answer."""

    body: bytes
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Exchange:
    """One HTTP request: its items, which of them a fault is for, and the way to the node."""

    items: Items
    wanted: tuple[bool, ...]
    batch: bool
    forward: Forward
    hush: Callable[[], object]

    def reach(self) -> Items:
        """The node's answers to everything up to the last item that is meant, and no further."""
        last = max(at for at, meant in enumerate(self.wanted) if meant)
        return self.forward(self.items[: last + 1])

    def answer(self, answers: Items) -> Reply:
        return Reply(json.dumps(answers if self.batch else answers[0]).encode())


@dataclass(frozen=True, slots=True)
class Fault:
    """One way of going wrong: its name, for counting, and what it makes of an exchange."""

    name: str
    tell: Callable[[Exchange], Reply]

    def __str__(self) -> str:
        return self.name


@dataclass(slots=True)
class _Planned:
    fault: Fault
    wanted: Wanted
    first: int
    times: int | None
    seen: int = 0

    def due(self, items: Items) -> tuple[bool, ...] | None:
        """Which items the fault is for, when this is a request that it is planned for."""
        wanted = tuple(self.wanted(item) for item in items)
        if not any(wanted):
            return None
        self.seen += 1
        over = self.times is not None and self.seen >= self.first + self.times
        return wanted if self.seen >= self.first and not over else None


# Faults of the connection and of HTTP.


def _lose(name: str, reply: Reply, *, forwarded: bool) -> Fault:
    def tell(exchange: Exchange) -> Reply:
        if forwarded:
            exchange.reach()
        return reply

    return Fault(name, tell)


def _silence(exchange: Exchange) -> Reply:
    exchange.reach()
    exchange.hush()
    return Reply(b"", 0)


def _truncate(exchange: Exchange) -> Reply:
    whole = exchange.answer(exchange.forward(exchange.items)).body
    return Reply(whole[: len(whole) // 2])


_HTML: Final = b"<!doctype html><html><body><h1>Attention required</h1></body></html>"
_BUSY: Final = b'{"error": "Too many requests", "code": 429}'

CUT_BEFORE: Final = _lose("cut before forwarding", Reply(b"", 0), forwarded=False)
CUT_AFTER: Final = _lose("cut after forwarding", Reply(b"", 0), forwarded=True)
BAD_GATEWAY: Final = _lose("502", Reply(_HTML, 502), forwarded=True)
BAD_GATEWAY_JSON: Final = _lose(
    "502 with JSON", Reply(b'{"message": "upstream is gone"}', 502), forwarded=False
)
HTML_PAGE: Final = _lose("HTML with 200", Reply(_HTML), forwarded=True)
NULL_BODY: Final = _lose("null body", Reply(b"null"), forwarded=True)
TOO_MANY: Final = _lose("429", Reply(_BUSY, 429), forwarded=False)
TOO_MANY_ACCEPTED: Final = _lose("429 after forwarding", Reply(_BUSY, 429), forwarded=True)
RETRY_AFTER: Final = _lose(
    "429 with Retry-After", Reply(_BUSY, 429, (("Retry-After", "1"),)), forwarded=False
)
SILENCE: Final = Fault("timeout after forwarding", _silence)
TRUNCATED_JSON: Final = Fault("truncated JSON", _truncate)


# Faults of single answers.


def _changed(name: str, change: Callable[[Item, Item], Item]) -> Fault:
    """``change`` makes another answer of (request, answer) wherever the fault is for it."""

    def tell(exchange: Exchange) -> Reply:
        answers = exchange.forward(exchange.items)
        told = zip(exchange.items, answers, exchange.wanted, strict=True)
        return exchange.answer([change(i, a) if meant else a for i, a, meant in told])

    return Fault(name, tell)


def result(name: str, change: Callable[[Any], Any]) -> Fault:
    """Tell ``change(result)`` instead of every result."""
    return _changed(name, lambda _, a: {**a, "result": change(a["result"])} if "result" in a else a)


def refusal(name: str, code: int, message: str) -> Fault:
    """Refuse with a JSON-RPC error."""
    error = {"code": code, "message": message}
    return _changed(
        name, lambda item, _: {"jsonrpc": "2.0", "id": item["id"], "error": dict(error)}
    )


def _reorder(exchange: Exchange) -> Reply:
    return exchange.answer(exchange.forward(exchange.items)[::-1])


def _leave_out(exchange: Exchange) -> Reply:
    told = zip(exchange.forward(exchange.items), exchange.wanted, strict=True)
    kept = [(answer, meant) for answer, meant in told]
    last = max(at for at, (_, meant) in enumerate(kept) if meant)
    del kept[last]
    return Reply(json.dumps([answer for answer, _ in kept]).encode())


def _twice(logs: Any) -> Any:
    return [log for log in logs for _ in range(2)] if isinstance(logs, list) else logs


def _backwards(logs: Any) -> Any:
    return logs[::-1] if isinstance(logs, list) else logs


def _half(logs: Any) -> Any:
    return logs[: len(logs) // 2] if isinstance(logs, list) else logs


NULL_RESULT: Final = result("null result", lambda _: None)
WRONG_CHAIN: Final = result("wrong chain id", lambda _: "0x1")
EMPTY_LOGS: Final = result("empty logs", lambda _: [])
HALF_THE_LOGS: Final = result("logs truncated", _half)
LOGS_TWICE: Final = result("logs duplicated", _twice)
LOGS_BACKWARDS: Final = result("logs out of order", _backwards)
NO_RANGE: Final = refusal("range error", -32602, "query exceeds max block range 0")
LIMITED: Final = refusal("rate limited item", -32005, "daily request count exceeded, rate limited")
HEADER_NOT_FOUND: Final = refusal("header not found", -32000, "header not found")
REORDERED: Final = Fault("batch reordered", _reorder)
ONE_MISSING: Final = Fault("one answer missing", _leave_out)


def stale(block: int) -> Fault:
    """A node whose newest block is ``block``: it knows nothing later and says so politely."""
    newest = hex(block)

    def number(text: Any) -> int:
        tags = {"latest": block, "pending": block, "safe": block, "finalized": block}
        return tags[text] if text in tags else int(text, 16)

    def asked(item: Item) -> Item:
        params = [newest if p in ("latest", "pending") else p for p in item["params"]]
        return {**item, "params": params}

    def known(item: Item, answer: Item) -> Item:
        found = answer.get("result")
        match item["method"]:
            case "eth_getBlockByNumber":
                later = number(item["params"][0]) > block
                return {**answer, "result": None} if later else answer
            case "eth_getLogs" if isinstance(found, list):
                kept = [log for log in found if int(log["blockNumber"], 16) <= block]
                return {**answer, "result": kept}
            case "eth_getTransactionReceipt" if isinstance(found, dict):
                later = int(found["blockNumber"], 16) > block
                return {**answer, "result": None} if later else answer
            case "eth_getTransactionCount" | "eth_getBalance" | "eth_call":
                if number(item["params"][1]) > block:
                    error = {"code": -32000, "message": "header not found"}
                    return {"jsonrpc": "2.0", "id": item["id"], "error": error}
        return answer

    def tell(exchange: Exchange) -> Reply:
        answers = exchange.forward([asked(item) for item in exchange.items])
        told = zip(exchange.items, answers, strict=True)
        return exchange.answer([known(item, answer) for item, answer in told])

    return Fault("stale node", tell)


def delayed(gate: threading.Event) -> Fault:
    """Answer only once ``gate`` is set."""

    def tell(exchange: Exchange) -> Reply:
        answers = exchange.forward(exchange.items)
        gate.wait(_SILENCE_SECONDS)
        return exchange.answer(answers)

    return Fault("delay", tell)


# Which requests.


def everything(_: Item) -> bool:
    return True


def method(*names: str) -> Wanted:
    """Requests of these JSON-RPC methods."""
    return lambda item: item["method"] in names


def sends(selector: str = "") -> Wanted:
    """Signed transactions whose call data has ``selector``: eight hex digits, all when empty."""
    return lambda item: item["method"] == SEND and selector in item["params"][0]


def mentions(text: str) -> Wanted:
    """Requests with ``text`` anywhere in their parameters, such as an escrow id."""
    bare = text.removeprefix("0x").lower()
    return lambda item: bare in json.dumps(item["params"]).lower()


# The server.


@dataclass(slots=True)
class FaultProxy:
    """Answers at ``url`` for the node at ``upstream``; ``injected`` counts the faults by name.

    ``asked`` counts JSON-RPC requests by method, and ``posts`` keeps the size of every batch.
    """

    upstream: str
    injected: Counter[str] = field(default_factory=Counter)
    asked: Counter[str] = field(default_factory=Counter)
    posts: list[int] = field(default_factory=list)
    url: str = ""
    _plans: list[_Planned] = field(default_factory=list)
    _lock: Any = field(default_factory=threading.Lock)
    _open: set[socket.socket] = field(default_factory=set)
    _hushed: threading.Event = field(default_factory=threading.Event)
    _server: ThreadingHTTPServer | None = None
    _thread: threading.Thread | None = None

    def plan(
        self, fault: Fault, wanted: Wanted = everything, *, first: int = 1, times: int | None = None
    ) -> None:
        """From the ``first`` request with a ``wanted`` item on, go wrong ``times`` (None: always).

        Of several plans for one request the one made first is carried out.
        """
        with self._lock:
            self._plans.append(_Planned(fault, wanted, first, times))

    def heal(self) -> None:
        """Forget every plan and end every silence; what was counted stays."""
        with self._lock:
            self._plans.clear()
            self._hushed.set()
            self._hushed = threading.Event()

    @contextmanager
    def faulty(
        self, fault: Fault, wanted: Wanted = everything, *, first: int = 1, times: int | None = None
    ) -> Iterator[None]:
        """``plan`` for the length of a block; AssertionError if it never came to the fault."""
        before = self.injected[fault.name]
        self.plan(fault, wanted, first=first, times=times)
        yield
        self.heal()
        assert self.injected[fault.name] > before, f"{fault} was never injected"

    def __enter__(self) -> FaultProxy:
        proxy = self

        class Handler(_Handler):
            plans = proxy

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_: object) -> None:
                """The client is gone: it gave up waiting, as it should."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._server and self._thread
        self.heal()
        self._server.shutdown()
        self._thread.join()
        with self._lock:
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        self._server.server_close()

    def _due(self, items: Items) -> tuple[Fault, tuple[bool, ...]] | None:
        with self._lock:
            self.posts.append(len(items))
            self.asked.update(item["method"] for item in items)
            chosen = None
            for planned in self._plans:
                wanted = planned.due(items)
                if wanted is not None and chosen is None:
                    chosen = planned.fault, wanted
            if chosen is not None:
                self.injected[chosen[0].name] += 1
            return chosen

    def _hush(self) -> None:
        with self._lock:
            hushed = self._hushed
        hushed.wait(_SILENCE_SECONDS)


class _Handler(BaseHTTPRequestHandler):
    """One connection of a client, with one of its own to the node."""

    protocol_version = "HTTP/1.1"
    # Head and body in one packet: else each answer waits 40 ms for an acknowledgement.
    wbufsize = -1
    disable_nagle_algorithm = True
    plans: FaultProxy

    def setup(self) -> None:
        super().setup()
        host = urlsplit(self.plans.upstream).netloc
        self._node = http.client.HTTPConnection(host, timeout=_FORWARD_SECONDS)
        with self.plans._lock:
            self.plans._open.add(self.connection)

    def finish(self) -> None:
        with self.plans._lock:
            self.plans._open.discard(self.connection)
        self._node.close()
        super().finish()

    def do_POST(self) -> None:
        document = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        items: Items = document if isinstance(document, list) else [document]
        batch, due = isinstance(document, list), self.plans._due(items)
        if due is None:
            reply = Exchange(items, (), batch, self._forward, self.plans._hush).answer(
                self._forward(items)
            )
        else:
            fault, wanted = due
            reply = fault.tell(Exchange(items, wanted, batch, self._forward, self.plans._hush))
        if reply.status == 0:
            self.close_connection = True
            return
        self.send_response(reply.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(reply.body)))
        for name, value in reply.headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(reply.body)

    def _forward(self, items: Sequence[Item]) -> Items:
        """The node's answers, in the order of the requests."""
        body = json.dumps(list(items)).encode()
        self._node.request("POST", "/", body, {"Content-Type": "application/json"})
        answers: Items = json.loads(self._node.getresponse().read())
        by_id = {answer["id"]: answer for answer in answers}
        return [by_id[item["id"]] for item in items]

    def log_message(self, *_: object) -> None:
        """Say nothing on stderr."""
