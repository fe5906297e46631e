"""Events of the treasury's escrows, from the logs of kernel, vault and token."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from coordinator.chain.actp.abi import kernel_abi, vault_abi
from coordinator.chain.actp.reads import EscrowReader
from coordinator.chain.actp.terms import STATES
from coordinator.chain.evm.answers import decoded
from coordinator.chain.evm.fiat_token import FiatToken
from coordinator.chain.evm.logs import Log, LogReader, account_topic, event_of
from coordinator.domain.chain.events import ChainEvent, EscrowState, EventBatch, EventKind
from coordinator.domain.usdc import Usdc


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
        """As ``events``, each block's logs by its hash; every block is the next one's parent."""
        block, logs = self.logs.by_block(self._filters(), after=after, after_hash=after_hash, to=to)
        return EventBatch(after, after_hash, block, self._events_of(logs, after, to))

    def _filters(self) -> list[Log]:
        """Log filters, without the range: the kernel's events, our vault escrows, all payouts."""
        kernel, vault = kernel_abi(), vault_abi()
        ours = account_topic(self.token.treasury)
        moved = [kernel.topic("EscrowLinked"), kernel.topic("StateTransitioned")]
        return [
            {"address": self.kernel, "topics": [kernel.topic("TransactionCreated"), None, ours]},
            {"address": self.kernel, "topics": [moved]},
            {"address": self.vault, "topics": [vault.topic("EscrowCreated"), None, ours]},
            {"address": self.vault, "topics": [vault.topic("EscrowPayout")]},
            *self.token.filters(),
        ]

    def _events_of(self, logs: list[Log], after: int, to: int) -> tuple[ChainEvent, ...]:
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
            kernel.topic(name): name
            for name in ("TransactionCreated", "EscrowLinked", "StateTransitioned")
        } | {vault.topic(name): name for name in ("EscrowCreated", "EscrowPayout")}
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
