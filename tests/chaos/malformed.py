"""Answers that are JSON, and not what JSON-RPC or a chain would say."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

from tests.chaos.fault_proxy import (
    LOGS,
    RECEIPT,
    Exchange,
    Fault,
    Item,
    Reply,
    Wanted,
    everything,
    method,
    result,
)

HEADER: Final = "eth_getBlockByNumber"


def each(name: str, change: Callable[[Item], Any]) -> Fault:
    """Tell ``change(answer)``, whatever it is, instead of every answer."""

    def tell(exchange: Exchange) -> Reply:
        answers: list[Any] = exchange.forward(exchange.items)
        told = zip(answers, exchange.wanted, strict=True)
        return exchange.answer([change(answer) if meant else answer for answer, meant in told])

    return Fault(name, tell)


def body(name: str, document: Any, status: int = 200) -> Fault:
    """Tell one document for the whole request, whatever was asked."""
    return Fault(name, lambda _: Reply(json.dumps(document).encode(), status))


def _without(*fields: str) -> Callable[[Any], Any]:
    def change(found: Any) -> Any:
        if isinstance(found, list):
            return [change(item) for item in found]
        if isinstance(found, dict):
            return {name: value for name, value in found.items() if name not in fields}
        return found

    return change


def _with(field: str, value: Any) -> Callable[[Any], Any]:
    return lambda found: {**found, field: value} if isinstance(found, dict) else found


def _error(error: Any) -> Callable[[Item], Any]:
    return lambda answer: {"jsonrpc": "2.0", "id": answer["id"], "error": error}


MALFORMED: Final[dict[str, tuple[Fault, Wanted]]] = {
    "no hash": (result("header without hash", _without("hash")), method(HEADER)),
    "null hash": (result("header with null hash", _with("hash", None)), method(HEADER)),
    "no timestamp": (result("header without timestamp", _without("timestamp")), method(HEADER)),
    "number in words": (result("number in words", _with("number", "ten")), method(HEADER)),
    "number too large": (
        result("number too large", _with("number", "0x" + "f" * 40)),
        method(HEADER),
    ),
    "header is text": (result("header is text", lambda _: "latest"), method(HEADER)),
    "no topics": (result("logs without topics", _without("topics")), method(LOGS)),
    "logs are texts": (result("logs are texts", lambda _: ["log"]), method(LOGS)),
    "no status": (result("receipt without status", _without("status")), method(RECEIPT)),
    "receipt of lists": (result("receipt of lists", _with("blockNumber", [1])), method(RECEIPT)),
    "call answers text": (result("call answers text", lambda _: "0xzz"), method("eth_call")),
    "call answers half": (result("call answers half", lambda said: said[:9]), method("eth_call")),
    "error is text": (each("error is text", _error("busy")), everything),
    "error without code": (each("error without code", _error({"code": None})), everything),
    "answers are texts": (each("answers are texts", lambda _: "busy"), everything),
    "ids are lists": (each("ids are lists", lambda a: {**a, "id": [a["id"]]}), everything),
    "bare text": (body("bare text", "unauthorised"), everything),
    "bare number": (body("bare number", 7), everything),
    "401 with JSON": (
        body("401 with JSON", {"error": {"code": -32000, "message": "no key"}}, 401),
        everything,
    ),
}
"""What lasts until it is healed, by name: (the fault, which requests)."""
