"""Events of the treasury's escrows, from the logs of kernel, vault and token."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from coordinator.chain.abi import token_abi
from coordinator.chain.actp.abi import kernel_abi, vault_abi
from coordinator.chain.actp.reads import EscrowReader
from coordinator.chain.actp.terms import STATES
from coordinator.chain.evm.answers import decoded
from coordinator.chain.evm.fiat_token import FiatToken
from coordinator.chain.evm.logs import Log, LogReader, account_topic, event_of
from coordinator.domain.chain.events import ChainEvent, EscrowState, EventBatch, EventKind
from coordinator.domain.usdc import Usdc

_KERNEL_EVENTS: Final = ("TransactionCreated", "EscrowLinked", "StateTransitioned")
_VAULT_EVENTS: Final = ("EscrowCreated", "EscrowPayout")


@dataclass(frozen=True, slots=True)
class EventReader:
    """Reads a treasury's events; each lost bond and the end of each window come with them."""

    logs: LogReader
    escrows: EscrowReader
    token: FiatToken
    kernel: str
    vault: str

    @property
    def host(self) -> str:
        return self.logs.host

    @decoded
    def events(self, *, after: int, after_hash: str, to: int) -> EventBatch:
        block, logs = self.logs.by_span(self._filters(), after=after, to=to)
        return EventBatch(after, after_hash, block, self._events_of(logs, after, to))

    @decoded
    def tail(self, *, after: int, after_hash: str, to: int) -> EventBatch:
        """As ``events``, near the head: what is not on the chain any more is refused.

        A single block's logs are read by its hash, those of several in one span.
        """
        read = self.logs.by_block if to - after == 1 else self.logs.by_linked_span
        block, logs = read(self._filters(), after=after, after_hash=after_hash, to=to)
        return EventBatch(after, after_hash, block, self._events_of(logs, after, to))

    @decoded
    def anything_after(self, block_number: int, *, escrows: Collection[str]) -> bool:
        """Whether later blocks have logs that may matter: USDC, or an escrow of ours.

        ``escrows`` are the ids and keys of those whose moves are asked for. One call each, of which
        nothing is kept; a node that refuses says yes, for then the chain has to be read whole.
        """
        ours = account_topic(self.token.treasury)
        came = [token_abi().topic("Transfer"), kernel_abi().topic("TransactionCreated")]
        filters: list[Log] = [
            {"address": [self.token.address, self.kernel], "topics": [came, None, ours]}
        ]
        if escrows:
            filters.append(self._escrow_filter())
        logs = self.logs.told_after(filters, block_number)
        return logs is None or any(self._matters(log, escrows) for log in logs)

    def _matters(self, log: Log, escrows: Collection[str]) -> bool:
        """Whether it moves USDC, or an escrow of ours: anybody can make logs for next to nothing.

        Many an address is sent transfers of zero, so that it is found in histories.
        """
        topics = log["topics"]
        if topics[0] == token_abi().topic("Transfer"):
            return int(log["data"], 16) > 0
        created = topics[0] == kernel_abi().topic("TransactionCreated")
        return topics[1] in escrows or (created and not self._is_foreign(log))

    def _filters(self) -> list[Log]:
        """Log filters, without the range: of kernel and vault, and of the treasury's USDC."""
        return [self._escrow_filter(), *self.token.filters()]

    def _escrow_filter(self) -> Log:
        kernel, vault = kernel_abi(), vault_abi()
        topics = [
            *(kernel.topic(name) for name in _KERNEL_EVENTS),
            *(vault.topic(name) for name in _VAULT_EVENTS),
        ]
        return {"address": [self.kernel, self.vault], "topics": [topics]}

    def _is_foreign(self, log: Log) -> bool:
        """Whether it tells of an escrow that another treasury asked for."""
        created = (kernel_abi().topic("TransactionCreated"), vault_abi().topic("EscrowCreated"))
        return log["topics"][0] in created and log["topics"][2] != account_topic(
            self.token.treasury
        )

    def _events_of(self, logs: list[Log], after: int, to: int) -> tuple[ChainEvent, ...]:
        logs = [log for log in logs if not self._is_foreign(log)]
        logs.extend(self._bond_transfers(logs))
        ordered = self.logs.ordered(logs, after=after, to=to)
        events = [*self._escrow_events(ordered), *self.token.transfers(ordered)]
        events.sort(key=lambda event: (event.block_number, event.log_index))
        return tuple(self._with_windows(events))

    def _bond_transfers(self, logs: Sequence[Log]) -> list[Log]:
        """Transfers out of the vault where a dispute ended: a lost bond goes to somebody else."""
        moved = kernel_abi().topic("StateTransitioned")
        disputed = f"0x{STATES.index(EscrowState.DISPUTED):064x}"
        blocks = {
            log["transactionHash"]: log["blockHash"]
            for log in logs
            if log["topics"][0] == moved and log["topics"][2] == disputed
        }
        return [
            log
            for log in self.logs.of_transactions(blocks)
            if self.token.is_transfer_from(log, self.vault)
        ]

    def _escrow_events(self, logs: Sequence[Log]) -> Iterator[ChainEvent]:
        """The events of ``logs``, which carry their block's time under ``at``."""
        kernel, vault = kernel_abi(), vault_abi()
        names = {
            **{kernel.topic(name): name for name in _KERNEL_EVENTS},
            **{vault.topic(name): name for name in _VAULT_EVENTS},
        }
        named = [(names[log["topics"][0]], log) for log in logs if log["topics"][0] in names]
        funded = _funded_by_us(named)
        for name, log in named:
            if name == "TransactionCreated":
                yield _created(log)
            elif name == "EscrowLinked":
                values = kernel.log(name, log)
                provider = funded.get((log["transactionHash"], values["escrowId"]))
                if provider is not None and values["escrowContract"].lower() == self.vault.lower():
                    yield event_of(
                        EventKind.ESCROW_FUNDED,
                        log,
                        escrow_id=values["transactionId"],
                        escrow_key=values["escrowId"],
                        provider=provider,
                        amount=Usdc.from_base_units(values["amount"]),
                    )
            elif name == "StateTransitioned":
                values = kernel.log(name, log)
                yield event_of(
                    EventKind.ESCROW_MOVED,
                    log,
                    escrow_id=values["transactionId"],
                    state=STATES[values["newState"]],
                )
            elif name == "EscrowPayout":
                values = vault.log(name, log)
                yield event_of(
                    EventKind.PAYOUT,
                    log,
                    escrow_key=values["escrowId"],
                    recipient=values["recipient"],
                    amount=Usdc.from_base_units(values["amount"]),
                )

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
        windows = self.escrows.window_ends(delivered)
        return [
            replace(event, window_ends=windows[event.escrow_id])
            if event.state is EscrowState.DELIVERED and event.escrow_id in windows
            else event
            for event in events
        ]


def _funded_by_us(named: Iterable[tuple[str, Log]]) -> Mapping[tuple[str, str], str]:
    """(transaction hash, escrow key) -> provider, of what the treasury funded."""
    found = {}
    for name, log in named:
        if name == "EscrowCreated":
            values = vault_abi().log(name, log)
            found[(log["transactionHash"], values["escrowId"])] = values["provider"]
    return found


def _created(log: Log) -> ChainEvent:
    values = kernel_abi().log("TransactionCreated", log)
    return event_of(
        EventKind.ESCROW_CREATED,
        log,
        escrow_id=values["transactionId"],
        requester=values["requester"],
        provider=values["provider"],
        amount=Usdc.from_base_units(values["amount"]),
        service_hash=values["serviceHash"],
        deadline=values["deadline"],
    )
