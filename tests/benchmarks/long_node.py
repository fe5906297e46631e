"""A node that serves a made chain, in a process of its own.

    python -m tests.benchmarks.long_node http://127.0.0.1:PORT FILE

FILE has the seed. Whatever is not of the made blocks goes to the node at the address given.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from coordinator.chain.abi import token_abi
from coordinator.chain.actp.abi import kernel_abi, vault_abi
from coordinator.chain.networks import AGGREGATOR
from coordinator.chain.rpc.client import Rpc, RpcRefusal
from coordinator.chain.words import WORD_DIGITS
from tests.benchmarks.long_chain import LongChain, Seed
from tests.benchmarks.scene import Scene, Treasury

_ROOT: Final = Path(__file__).resolve().parents[2]
_TAGS: Final = ("latest", "pending", "safe", "finalized")
# Longer hex is a hash or an address, no number of a block.
_NUMBER_LENGTH_MAX: Final = 18


class Answers:
    """Answers what is asked of the made chain, and has the node before it answer the rest."""

    def __init__(self, chain: LongChain, node: Rpc) -> None:
        self._chain = chain
        self._node = node

    def answer(self, request: Mapping[str, Any]) -> bytes:
        found = self._result(request["method"], request.get("params", []))
        head = b'{"jsonrpc":"2.0","id":%d,' % request["id"]
        if isinstance(found, bytes):
            return b'%s"result":%s}' % (head, found)
        if isinstance(found, RpcRefusal):
            error = {"code": found.code, "message": found.message, "data": found.data}
            return b'%s"error":%s}' % (head, json.dumps(error).encode())
        return b'%s"result":%s}' % (head, json.dumps(found).encode())

    def _result(self, method: str, params: list[Any]) -> Any:
        chain = self._chain
        if method == "eth_blockNumber":
            return hex(chain.head)
        if method == "eth_getBlockByNumber" and chain.has(self._number(params[0])):
            return chain.header(self._number(params[0]))
        if method == "eth_getLogs":
            return self._logs(params[0])
        if method == "eth_call" and chain.has(self._number(params[1])):
            call, number = params[0], self._number(params[1])
            if (
                call["to"].lower() == AGGREGATOR.lower()
                and len(call["data"]) > 10 + 2 * WORD_DIGITS
            ):
                return self._aggregate(call["data"][10:], number)
            return self._call(call["to"], call["data"], number)
        return self._node.batch([(method, [self._of_node(p) for p in params])])[0]

    def _number(self, tag: Any) -> int:
        if isinstance(tag, dict):
            numbers = (n for n in range(self._chain.head, self._chain.seed.number, -1))
            return next((n for n in numbers if self._chain.hash(n) == tag["blockHash"]), 0)
        if tag in _TAGS:
            return self._chain.head
        return int(tag, 16) if tag != "earliest" else 0

    def _of_node(self, param: Any) -> Any:
        """A block that only this chain has is the node's latest."""
        short = (
            isinstance(param, str) and param.startswith("0x") and len(param) < _NUMBER_LENGTH_MAX
        )
        return "latest" if short and self._chain.has(int(param, 16)) else param

    def _logs(self, wanted: Mapping[str, Any]) -> bytes:
        topics = wanted["topics"][0]
        asked = {topics} if isinstance(topics, str) else set(topics)
        transfer = token_abi().topic("Transfer")
        kinds = {
            kind
            for kind in (False, True)
            if (asked - {transfer} if not kind else asked & {transfer})
        }
        # Those to the treasury: none of ours.
        if len(wanted["topics"]) > 2 and wanted["topics"][1] is None:
            kinds.discard(True)
        first, last = (
            (self._number(wanted["blockHash"] and {"blockHash": wanted["blockHash"]}),) * 2
            if "blockHash" in wanted
            else (self._number(wanted["fromBlock"]), self._number(wanted["toBlock"]))
        )
        before = b""
        if first <= self._chain.seed.number:
            span = {"fromBlock": hex(first), "toBlock": hex(min(last, self._chain.seed.number))}
            told = self._node.call("eth_getLogs", {**wanted, **span})
            before = json.dumps(told)[1:-1].encode()
        made = self._chain.logs(first, last, kinds)
        return b"[" + b",".join(part for part in (before, made) if part) + b"]"

    def _call(self, to: str, data: str, number: int) -> Any:
        found = self._chain.call(to, data, number)
        if found is not None:
            return "0x" + found
        return self._node.batch([("eth_call", [{"to": to, "data": data}, "latest"])])[0]

    def _aggregate(self, digits: str, number: int) -> Any:
        results = [self._one(to, data, number) for to, data in _calls(digits)]
        items, places, place = [], [], len(results) * 32
        for result in results:
            padded = result.ljust(-(-len(result) // WORD_DIGITS) * WORD_DIGITS, "0")
            items.append(f"{1:064x}{64:064x}{len(result) // 2:064x}{padded}")
            places.append(f"{place:064x}")
            place += len(items[-1]) // 2
        return b'"0x%s"' % "".join((f"{32:064x}{len(items):064x}", *places, *items)).encode()

    def _one(self, to: str, data: str, number: int) -> str:
        told = self._call(to, data, number)
        if not isinstance(told, str):
            raise ValueError(f"the node refused a read: {told}")
        return told[2:]


def _calls(digits: str) -> Iterator[tuple[str, str]]:
    """The calls of ``aggregate3``."""
    base = WORD_DIGITS
    count = int(digits[base : base + WORD_DIGITS], 16)
    start = base + WORD_DIGITS
    for index in range(count):
        at = start + 2 * int(
            digits[start + index * WORD_DIGITS : start + (index + 1) * WORD_DIGITS], 16
        )
        length_at = at + 2 * int(digits[at + 2 * WORD_DIGITS : at + 3 * WORD_DIGITS], 16)
        length = 2 * int(digits[length_at : length_at + WORD_DIGITS], 16)
        first = length_at + WORD_DIGITS
        yield "0x" + digits[at + 24 : at + WORD_DIGITS], "0x" + digits[first : first + length]


def _kinds(topics: list[Any]) -> set[bool]:
    """Whether logs are asked for that are transfers, and others."""
    asked = {topics[0]} if isinstance(topics[0], str) else set(topics[0])
    transfer = token_abi().topic("Transfer")
    kinds = {False} if asked - {transfer} else set()
    # Nothing is transferred to the treasury.
    if transfer in asked and not (len(topics) > 1 and topics[1] is None):
        kinds.add(True)
    return kinds


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    answers: Answers

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if isinstance(asked, list):
            told = b"[" + b",".join(self.answers.answer(one) for one in asked) + b"]"
        else:
            told = self.answers.answer(asked)
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)

    def log_message(self, *_: Any) -> None: ...


def serve(upstream: str, seed: Seed) -> None:
    """Print the port; a line of stdin adds the blocks that were held back, its end is the end."""
    with tempfile.TemporaryFile() as logs:
        chain = LongChain(seed, logs)
        _Handler.answers = Answers(chain, Rpc([upstream], timeout_seconds=60))
        server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print(server.server_address[1], flush=True)
        for _ in sys.stdin:
            chain.grow()
            print(chain.head, flush=True)
        server.shutdown()


class LongNode:
    """A running node of a made chain, in a process of its own: ``url`` is asked."""

    def __init__(self, upstream: str, seed: Seed, folder: Path) -> None:
        file = folder / "seed.json"
        file.write_text(json.dumps(asdict(seed)))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.long_node", upstream, str(file)],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdin and self._process.stdout
        self._say, self._told = self._process.stdin, self._process.stdout
        self.url = f"http://127.0.0.1:{int(self._told.readline())}"

    def grow(self) -> None:
        """Add the blocks that were held back."""
        self._say.write("\n")
        self._say.flush()
        self._told.readline()

    def __enter__(self) -> LongNode:
        return self

    def __exit__(self, *_: object) -> None:
        self._say.close()
        self._process.wait(timeout=60)
        self._told.close()


def seed_of(scene: Scene, treasury: Treasury, escrows: int, *, held_back: int) -> Seed:
    """The treasury's escrow in the scene's newest block, to be repeated so often."""
    d, rpc, kernel = scene.deployment, scene.rpc, kernel_abi()
    number = hex(scene.chain.height)
    topics = [kernel.topic(n) for n in ("TransactionCreated", "EscrowLinked", "StateTransitioned")]
    topics += [vault_abi().topic("EscrowCreated"), token_abi().topic("Transfer")]
    span = {"fromBlock": number, "toBlock": number}
    addresses = [d.kernel, d.vault, d.usdc]
    logs = rpc.call("eth_getLogs", {"address": addresses, "topics": [topics], **span})
    linked = next(log for log in logs if log["topics"][0] == kernel.topic("EscrowLinked"))
    told = kernel.log("EscrowLinked", linked)
    get = {"to": d.kernel, "data": kernel.call("getTransaction", told["transactionId"])}
    return Seed(
        escrow_id=told["transactionId"],
        escrow_key=told["escrowId"],
        amount=told["amount"],
        treasury=treasury.address,
        usdc=scene.chain.balance(treasury.address).base_units,
        kernel=d.kernel,
        vault=d.vault,
        token=d.usdc,
        escrow=rpc.call("eth_call", get, number),
        header=rpc.call("eth_getBlockByNumber", number, False),
        logs=logs,
        escrows=escrows,
        held_back=held_back,
    )


if __name__ == "__main__":
    serve(sys.argv[1], Seed(**json.loads(Path(sys.argv[2]).read_text())))
