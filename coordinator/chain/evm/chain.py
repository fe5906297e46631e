"""The chain port for an EVM chain with the ACTP rail and a wallet as payer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from coordinator.chain.abi import kernel_abi, number, quantity, token_abi, uint, vault_abi
from coordinator.chain.actp.checks import check_contracts, check_endpoints
from coordinator.chain.actp.rail import ActpRail
from coordinator.chain.evm.answers import (
    UNREADABLE,
    block_of,
    decoded,
    logs_of,
    receipt_of,
    refusal_of,
    sent_of,
)
from coordinator.chain.evm.fiat_token import FiatToken
from coordinator.chain.evm.head import BEHIND, HeadReader
from coordinator.chain.evm.send_answers import best
from coordinator.chain.evm.used_nonces import confirm_count, mined_at_nonce
from coordinator.chain.networks import Deployment, Network
from coordinator.chain.rpc.client import Rpc, RpcRefusal
from coordinator.chain.signers.signers import Signer
from coordinator.domain.chain.events import Block, ChainEvent, EscrowState, EventBatch, EventKind
from coordinator.domain.chain.gas import GAS_LIMITS, Fees
from coordinator.domain.chain.steps import Attempt, Call, Receipt, StepKind
from coordinator.domain.errors import ChainUnavailable, TxReverted
from coordinator.domain.ports import EscrowOnChain, Observation, SendAnswer, Sent
from coordinator.domain.usdc import Usdc

# No block has room for so many logs.
_INDEX_MAX: Final = 2**31 - 1


class EvmChain:
    """Reads and acts for one treasury. Made by ``connect``, which checks what it talks to."""

    def __init__(
        self,
        rpc: Rpc,
        network: Network,
        deployment: Deployment,
        signer: Signer,
        *,
        confirmations: int,
        finality: str,
        max_fee_wei: int | None,
    ) -> None:
        self._rpc = rpc
        self._network = network
        self._deployment = deployment
        self._signer = signer
        rpc.expect_chain(deployment.chain_id)
        self._rail = ActpRail(deployment.kernel, deployment.vault, signer.address)
        self._token = FiatToken(deployment.usdc, signer.address)
        head = HeadReader(
            rpc,
            network,
            deployment,
            signer.address,
            confirmations=confirmations,
            finality=finality,
            max_fee_wei=max_fee_wei,
        )
        self._checked = False
        self.observe = head.observe
        self.confirm = head.confirm
        self.create = self._rail.create
        self.link = self._rail.link
        self.cancel = self._rail.cancel
        self.reclaim = self._rail.reclaim
        self.settle = self._rail.settle
        self.dispute = self._rail.dispute
        self.withdraw = self._token.withdraw
        self.mint = self._token.mint

    @property
    def chain_id(self) -> int:
        return self._deployment.chain_id

    @property
    def treasury(self) -> str:
        return self._signer.address

    def approve(self, amount: Usdc) -> Call:
        return self._token.approve(self._deployment.vault, amount)

    def fill(self) -> Call:
        return Call(kind=StepKind.FILL, to=self.treasury, data="0x", gas_limit=GAS_LIMITS["fill"])

    def check(self) -> None:
        """Refuse an endpoint or contracts that are not what the settings say; nothing is signed."""
        if self._checked:
            return
        check_endpoints(self._rpc, self._network, self._deployment.chain_id)
        check_contracts(self._rpc, self._deployment)
        self._checked = True

    @decoded
    def block(self, number: int) -> Block:
        header = self._rpc.call("eth_getBlockByNumber", hex(number), False)
        if header is None:
            raise ChainUnavailable(f"the endpoint does not have block {number}")
        return block_of(header)

    @decoded
    def hashes(self, number: int, *, all_of_them: bool = False) -> Sequence[str]:
        """The block's hash as each endpoint tells it; those that don't have it are left out.

        With ``all_of_them`` ChainUnavailable unless every endpoint answers.
        """
        asked = [("eth_getBlockByNumber", [hex(number), False])]
        headers = self._rpc.everywhere(asked, all_of_them=all_of_them)
        told = [str(h["hash"]) for (h,) in headers if isinstance(h, dict) and h.get("hash")]
        if not told:
            raise ChainUnavailable(f"no endpoint has block {number}")
        return told

    @decoded
    def events(self, *, after: int, after_hash: str, to: int) -> EventBatch:
        span = {"fromBlock": hex(after + 1), "toBlock": hex(to)}
        filters = [*self._rail.filters(), *self._token.filters()]
        answers = self._rpc.batch(
            [
                ("eth_getBlockByNumber", [hex(to), False]),
                *(("eth_getLogs", [{**item, **span}]) for item in filters),
            ]
        )
        if not isinstance(answers[0], dict):
            raise ChainUnavailable(f"the endpoint does not have block {to} yet")
        logs = logs_of(answers[1:], f"blocks {after + 1} to {to}")
        return EventBatch(after, after_hash, block_of(answers[0]), self._events_of(logs, after, to))

    @decoded
    def tail(self, *, after: int, after_hash: str, to: int) -> EventBatch:
        """As ``events``, each block's logs by its hash; every block is the next one's parent."""
        wanted = range(after + 1, to + 1)
        headers = self._rpc.batch([("eth_getBlockByNumber", [hex(n), False]) for n in wanted])
        parent = after_hash
        for block, header in zip(wanted, headers, strict=True):
            if not isinstance(header, dict) or header["parentHash"] != parent:
                raise ChainUnavailable(f"block {block} does not follow the one that was read last")
            parent = header["hash"]
        filters = [*self._rail.filters(), *self._token.filters()]
        answers = self._rpc.batch(
            [
                ("eth_getLogs", [{**item, "blockHash": header["hash"]}])
                for header in headers
                for item in filters
            ]
        )
        logs = logs_of(answers, f"blocks {after + 1} to {to}")
        return EventBatch(
            after, after_hash, block_of(headers[-1]), self._events_of(logs, after, to)
        )

    def _events_of(self, logs: list[dict[str, Any]], after: int, to: int) -> tuple[ChainEvent, ...]:
        logs.extend(self._bond_transfers(logs))
        for log in logs:
            if not after < number(log["blockNumber"]) <= to or number(log["logIndex"]) > _INDEX_MAX:
                raise ChainUnavailable(f"the endpoint tells a log outside of {after + 1} to {to}")
        self._add_times(logs)
        unique = {(log["blockHash"], log["logIndex"]): log for log in logs}
        ordered = sorted(
            unique.values(), key=lambda g: (int(g["blockNumber"], 16), int(g["logIndex"], 16))
        )
        events = [*self._rail.events(ordered), *self._token.transfers(ordered)]
        events.sort(key=lambda event: (event.block_number, event.log_index))
        return tuple(self._with_windows(events))

    @decoded
    def receipts(self, hashes: Sequence[str]) -> Mapping[str, Receipt]:
        answers = self._rpc.batch([("eth_getTransactionReceipt", [h]) for h in hashes])
        _check_answered(answers, "receipts")
        mined = {
            tx_hash: answer
            for tx_hash, answer in zip(hashes, answers, strict=True)
            if isinstance(answer, dict) and answer.get("blockNumber")
        }
        # A preconfirmed or orphaned receipt names a block that is not on the chain.
        numbers = sorted({answer["blockNumber"] for answer in mined.values()})
        headers = self._rpc.batch([("eth_getBlockByNumber", [n, False]) for n in numbers])
        _check_answered(headers, "the blocks of receipts")
        sealed = {
            number: header["hash"]
            for number, header in zip(numbers, headers, strict=True)
            if isinstance(header, dict)
        }
        return {
            tx_hash: receipt_of(tx_hash, answer)
            for tx_hash, answer in mined.items()
            if sealed.get(answer["blockNumber"]) == answer["blockHash"]
        }

    def mined_at_nonce(self, nonce: int, *, by: int) -> str | None:
        return mined_at_nonce(self._rpc, self.treasury, nonce, by=by)

    @decoded
    def confirm_nonce(self, seen: Observation, *, known: int) -> None:
        confirm_count(self._rpc, self.treasury, seen.nonce, at=seen.head.number, known=known)

    def sign(self, call: Call, *, nonce: int, fees: Fees) -> Attempt:
        self.check()
        return self._signer.sign(call, nonce=nonce, fees=fees, chain_id=self.chain_id)

    def send(self, raws: Sequence[str], *, everywhere: bool = False) -> Sequence[SendAnswer]:
        calls = [("eth_sendRawTransaction", [raw]) for raw in raws]
        try:
            told = self._rpc.everywhere(calls) if everywhere else [self._rpc.send(calls)]
        except ChainUnavailable as fault:
            return [SendAnswer(Sent.UNKNOWN, str(fault))] * len(raws)
        return [
            best([sent_of(answer) for answer in answers]) for answers in zip(*told, strict=True)
        ]

    def look_elsewhere(self, *, above: int) -> bool:
        return self._rpc.use_where(("eth_blockNumber", []), lambda said: quantity(said) > above)

    def turn_away(self) -> None:
        self._rpc.use_next()

    @decoded
    def refusal(self, call: Call, *, block_number: int | None = None) -> str | None:
        """Why ``call`` would revert at a block's end (latest: None); None if it succeeds."""
        at = "latest" if block_number is None else hex(block_number)
        request = {"from": self.treasury, "to": call.to, "data": call.data}
        answer = self._rpc.batch([("eth_call", [request, at])])[0]
        if not isinstance(answer, RpcRefusal):
            return None
        return refusal_of(answer)

    @decoded
    def escrow(self, escrow_id: str) -> EscrowOnChain:
        data = kernel_abi().call("getTransaction", escrow_id)
        answer = self._calls([(self._deployment.kernel, data)], "latest")[0]
        if isinstance(answer, RpcRefusal):
            raise TxReverted(refusal_of(answer))
        return self._rail.escrow(answer)

    def windows(self, escrow_id: str, *, head: int) -> frozenset[int | None]:
        """Read the end of its window at each endpoint; None where it is not delivered.

        An endpoint far behind block ``head`` counts only where it has the delivery.
        """
        request = {"to": self._deployment.kernel}
        request["data"] = kernel_abi().call("getTransaction", escrow_id)
        asked = [("eth_blockNumber", []), ("eth_call", [request, "latest"])]
        told: set[int | None] = set()
        for newest, answer in self._rpc.everywhere(asked):
            try:
                ends = self._rail.escrow(answer).window_ends
                near = number(newest) >= head - BEHIND
            except (ChainUnavailable, *UNREADABLE):
                continue
            if near or ends is not None:
                told.add(ends)
        return frozenset(told)

    @decoded
    def funded_by_treasury(self, escrow_key: str) -> bool:
        """Whether the vault was ever funded by the treasury under this key, by its own record."""
        vault, encode = self._deployment.vault, vault_abi().call
        found, left = self._calls(
            [(vault, encode("escrows", escrow_key)), (vault, encode("remaining", escrow_key))],
            "latest",
        )
        if isinstance(found, RpcRefusal):
            # A vault without that getter: what it still holds under the key tells as much.
            return uint(left) > 0
        requester, _, amount, *_ = vault_abi().result("escrows", found)
        return bool(amount) and requester.lower() == self.treasury.lower()

    @decoded
    def escrows_at(
        self, escrow_ids: Sequence[str], *, block_number: int
    ) -> Mapping[str, EscrowOnChain]:
        kernel, encode = self._deployment.kernel, kernel_abi().call
        answers = self._calls(
            [(kernel, encode("getTransaction", i)) for i in escrow_ids], hex(block_number)
        )
        return {
            escrow_id: self._rail.escrow(answer)
            for escrow_id, answer in zip(escrow_ids, answers, strict=True)
            if not isinstance(answer, RpcRefusal) or not refusal_of(answer)
        }

    @decoded
    def balances(
        self, escrow_keys: Sequence[str], *, block_number: int
    ) -> tuple[Usdc, Mapping[str, Usdc]]:
        d, encode = self._deployment, vault_abi().call
        answers = self._calls(
            [
                (d.usdc, token_abi().call("balanceOf", self.treasury)),
                *((d.vault, encode("remaining", key)) for key in escrow_keys),
            ],
            hex(block_number),
        )
        refused = next((a for a in answers if isinstance(a, RpcRefusal)), None)
        if refused is not None:
            raise ChainUnavailable(
                f"the endpoint has no balances of block {block_number}: {refused.message[:200]}"
            )
        # No code at the address yet answers with nothing: then it holds nothing.
        amounts = [
            Usdc.from_base_units(0 if answer == "0x" else uint(answer)) for answer in answers
        ]
        return amounts[0], dict(zip(escrow_keys, amounts[1:], strict=True))

    def _calls(self, calls: Iterable[tuple[str, str]], at: str) -> list[Any]:
        return self._rpc.batch([("eth_call", [{"to": to, "data": data}, at]) for to, data in calls])

    def _bond_transfers(self, logs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Transfers out of the vault where a dispute ended: a lost bond goes to somebody else."""
        resolved = kernel_abi().topic("StateTransitioned")
        disputed = "0x" + f"{6:064x}"
        blocks = {
            log["transactionHash"]: log["blockHash"]
            for log in logs
            if log["topics"][0] == resolved and log["topics"][2] == disputed
        }
        transfer = token_abi().topic("Transfer")
        vault = "0x" + self._deployment.vault[2:].lower().rjust(64, "0")
        found = []
        for tx_hash, block_hash in sorted(blocks.items()):
            receipt = self._rpc.call("eth_getTransactionReceipt", tx_hash)
            if receipt is None or receipt["blockHash"] != block_hash:
                raise ChainUnavailable(f"the endpoint does not have the receipt of {tx_hash}")
            found += [
                log
                for log in receipt["logs"]
                if log["topics"][0] == transfer
                and log["topics"][1] == vault
                and log["address"].lower() == self._deployment.usdc.lower()
            ]
        return found

    def _add_times(self, logs: Sequence[dict[str, Any]]) -> None:
        unknown = sorted({log["blockNumber"] for log in logs if not log.get("blockTimestamp")})
        headers = self._rpc.batch([("eth_getBlockByNumber", [n, False]) for n in unknown])
        times = {}
        for block, header in zip(unknown, headers, strict=True):
            if not isinstance(header, dict):
                raise ChainUnavailable(f"the endpoint does not have block {int(block, 16)}")
            times[block] = number(header["timestamp"])
        for log in logs:
            stamp = log.get("blockTimestamp")
            log["at"] = number(stamp) if stamp else times[log["blockNumber"]]

    def _with_windows(self, events: Sequence[ChainEvent]) -> list[ChainEvent]:
        delivered = [
            event.escrow_id
            for event in events
            if event.kind is EventKind.ESCROW_MOVED
            and event.state is EscrowState.DELIVERED
            and event.escrow_id
        ]
        if not delivered:
            return list(events)
        # Written once, at delivery: the latest block tells the same, and is never pruned.
        kernel, encode = self._deployment.kernel, kernel_abi().call
        answers = self._calls([(kernel, encode("getTransaction", i)) for i in delivered], "latest")
        windows = {}
        for escrow_id, answer in zip(delivered, answers, strict=True):
            found = None if isinstance(answer, RpcRefusal) else self._rail.escrow(answer)
            cancelled = found is not None and found.state is EscrowState.CANCELLED
            if found is None or (found.window_ends is None and not cancelled):
                raise ChainUnavailable(f"the endpoint does not tell the window of {escrow_id} yet")
            windows[escrow_id] = found.window_ends
        return [
            replace(event, window_ends=windows[event.escrow_id])
            if event.state is EscrowState.DELIVERED and event.escrow_id in windows
            else event
            for event in events
        ]


def _check_answered(answers: Sequence[Any], what: str) -> None:
    """ChainUnavailable for an error of the node, which is not the answer that there is none."""
    refused = next((a for a in answers if isinstance(a, RpcRefusal)), None)
    if refused is not None:
        raise ChainUnavailable(f"the endpoint refused {what}: {refused.message[:200]}")
