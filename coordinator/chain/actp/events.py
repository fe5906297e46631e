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
from coordinator.chain.evm.logs import Log, LogReader, account_topics, event_of
from coordinator.chain.evm.payer import PayerEvents
from coordinator.domain.chain.accounts import OwnAccount
from coordinator.domain.chain.events import Block, ChainEvent, EscrowState, EventBatch, EventKind
from coordinator.domain.ports import Accounts
from coordinator.domain.usdc import Usdc

_KERNEL_EVENTS: Final = ("TransactionCreated", "EscrowLinked", "StateTransitioned")
# The first are looked for; whole rounds find the others.
_PAYMENTS_MAX: Final = 200
_VAULT_EVENTS: Final = ("EscrowCreated", "EscrowPayout")


@dataclass(frozen=True, slots=True)
class EventReader:
    """Reads the events of our accounts; lost bonds and the ends of windows come with them.

    Each account is opened and closed with what it had at the block, as no log tells it.
    """

    logs: LogReader
    escrows: EscrowReader
    token: FiatToken
    kernel: str
    vault: str
    accounts: Accounts
    watched: PayerEvents | None = None

    @property
    def host(self) -> str:
        return self.logs.host

    @decoded
    def events(self, *, after: int, after_hash: str, to: int) -> EventBatch:
        ours = self.accounts()
        block, logs = self.logs.by_span(self._filters(ours), after=after, to=to)
        return EventBatch(after, after_hash, block, self._events_of(logs, ours, after, block), ours)

    @decoded
    def tail(self, *, after: int, after_hash: str, to: int) -> EventBatch:
        """As ``events``, near the head: what is not on the chain any more is refused.

        A single block's logs are read by its hash, those of several in one span.
        """
        read = self.logs.by_block if to - after == 1 else self.logs.by_linked_span
        ours = self.accounts()
        block, logs = read(self._filters(ours), after=after, after_hash=after_hash, to=to)
        return EventBatch(after, after_hash, block, self._events_of(logs, ours, after, block), ours)

    @decoded
    def anything_after(
        self, block_number: int, *, escrows: Collection[str], payments: Collection[str] = ()
    ) -> bool:
        """Whether later blocks have logs that may matter: USDC, an escrow of ours, or the payer.

        ``escrows`` are the ids and keys of those whose moves are asked for, ``payments`` the nonces
        of authorisations that may be used. One call, with escrows or a payer that is watched two,
        of which nothing is kept; a node that refuses says yes, for then the chain has to be read
        whole.
        """
        ours = account_topics(a.address for a in self.accounts())
        token, kernel = token_abi(), kernel_abi()
        came = [token.topic("Transfer"), kernel.topic("TransactionCreated")]
        # Who is paid, who asks for an escrow, and the nonce of a payment stand in the same place.
        named = [*ours, *sorted(payments)[:_PAYMENTS_MAX]]
        if payments:
            came.append(token.topic("AuthorizationUsed"))
        filters: list[Log] = [
            {"address": [self.token.address, self.kernel], "topics": [came, None, named]}
        ]
        if escrows:
            filters.append(self._escrow_filter())
        elif self.watched is not None:
            watched = self.watched
            filters.append({"address": [*watched.addresses], "topics": [[*watched.topics]]})
        logs = self.logs.told_after(filters, block_number)
        return logs is None or any(self._matters(log, escrows, ours) for log in logs)

    def _matters(self, log: Log, escrows: Collection[str], ours: Collection[str]) -> bool:
        """Whether it moves USDC, or an escrow of ours: anybody can make logs for next to nothing.

        Many an address is sent transfers of zero, so that it is found in histories.
        """
        topics = log["topics"]
        if self.watched is not None and topics[0] in self.watched.topics:
            return True
        if topics[0] == token_abi().topic("Transfer"):
            return int(log["data"], 16) > 0
        if topics[0] == token_abi().topic("AuthorizationUsed"):
            return True
        created = topics[0] == kernel_abi().topic("TransactionCreated")
        return topics[1] in escrows or (created and not self._is_foreign(log, ours))

    def _filters(self, ours: Iterable[OwnAccount]) -> list[Log]:
        """Log filters, without the range: of kernel, vault and payer, and of our USDC."""
        accounts = (account.address for account in ours)
        transfers = self.token.filters(accounts, approvals=self.watched is not None)
        return [self._escrow_filter(), *transfers]

    def _escrow_filter(self) -> Log:
        kernel, vault = kernel_abi(), vault_abi()
        topics = [
            *(kernel.topic(name) for name in _KERNEL_EVENTS),
            *(vault.topic(name) for name in _VAULT_EVENTS),
        ]
        addresses = [self.kernel, self.vault]
        if self.watched is not None:
            addresses += self.watched.addresses
            topics += self.watched.topics
        return {"address": addresses, "topics": [topics]}

    def _is_foreign(self, log: Log, ours: Collection[str]) -> bool:
        """Whether it tells of an escrow that somebody else's account asked for."""
        created = (kernel_abi().topic("TransactionCreated"), vault_abi().topic("EscrowCreated"))
        return log["topics"][0] in created and log["topics"][2] not in ours

    def _events_of(
        self, logs: list[Log], ours: Sequence[OwnAccount], after: int, to: Block
    ) -> tuple[ChainEvent, ...]:
        topics = account_topics(account.address for account in ours)
        logs = [log for log in logs if not self._is_foreign(log, topics)]
        logs.extend(self._bond_transfers(logs))
        ordered = self.logs.ordered(logs, after=after, to=to.number)
        events = [*self._escrow_events(ordered), *self.token.events(ordered)]
        if self.watched is not None:
            events.extend(self.watched.events(ordered))
        events.extend(self._turns(ours, after, to))
        events.sort(key=lambda event: (event.block_number, event.log_index))
        return tuple(self._with_windows(events))

    def _turns(self, ours: Iterable[OwnAccount], after: int, to: Block) -> Iterator[ChainEvent]:
        """Yield where accounts open or close in the blocks, each with its USDC after that block."""
        for account in ours:
            opened = EventKind.ACCOUNT_OPENED, account.first_block - 1, account.opening_index
            closed = EventKind.ACCOUNT_CLOSED, account.last_block, account.closing_index
            for kind, number, index in (opened, closed):
                if number is None or not after < number <= to.number:
                    continue
                block = to if number == to.number else self.logs.block(number)
                usdc = self.escrows.usdc_of([account.address], block_number=number)
                yield ChainEvent(
                    kind=kind,
                    block_number=number,
                    block_hash=block.hash,
                    log_index=index,
                    tx_hash="",
                    at=block.at,
                    recipient=account.address,
                    amount=usdc[account.address],
                )

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
    """(transaction hash, escrow key) -> provider, of what an account of ours funded."""
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
