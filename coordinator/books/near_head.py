"""Notice logs that a node leaves out near the head, by the state that they would explain."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from coordinator.domain.chain.events import Block, ChainEvent, EscrowState, EventBatch, EventKind
from coordinator.domain.ports import ChainReader, Observation
from coordinator.domain.usdc import Usdc
from coordinator.ledger.chain.chain_book import ChainBook

log = logging.getLogger(__name__)

# Two hundred are read in one call.
_STATES_MAX: Final = 1_000


@dataclass(frozen=True, slots=True)
class Differences:
    """Each account's balance less the journal's, and the states that the books don't have."""

    usdc: Mapping[str, Usdc] = field(default_factory=dict)
    states: frozenset[tuple[str, EscrowState | None]] = frozenset()


@dataclass(slots=True)
class NearHead:
    """Reads events near the head, and compares what they explain with the state after them.

    A node whose index of logs is behind its blocks tells none of a range, and its state shows what
    they did. What reading by hash does not explain either is known from then on: it costs nothing
    more here, and is the second reading's and the reconciler's.
    """

    chain: ChainReader
    books: ChainBook
    _known: Differences = field(default_factory=Differences)

    def read(self, after: Block, to: int, seen: Observation) -> EventBatch:
        """Read the events of the blocks beyond ``after``, the books' block, up to block ``to``.

        Those of several blocks are believed with the state alone; else each block is read by its
        hash.
        """
        batch = self.chain.tail(after=after.number, after_hash=after.hash, to=to)
        if to == after.number + 1:
            return batch
        found = self._differences(batch, seen)
        if found.usdc != self._known.usdc or not found.states <= self._known.states:
            log.warning("logs_doubted after=%s to=%s: read by hash", after.number, to)
            batch = self._by_hash(after, to)
            found = self._differences(batch, seen)
        self._known = found
        return batch

    def _by_hash(self, after: Block, to: int) -> EventBatch:
        events: list[ChainEvent] = []
        block, accounts = after, None
        for number in range(after.number + 1, to + 1):
            one = self.chain.tail(after=block.number, after_hash=block.hash, to=number)
            events.extend(one.events)
            # Should they change meanwhile, the books refuse what was read for the first ones.
            accounts = one.accounts if accounts is None else accounts
            block = one.to
        return EventBatch(after.number, after.hash, block, tuple(events), accounts)

    def _differences(self, batch: EventBatch, seen: Observation) -> Differences:
        booked = self.books.usdc_after(batch)
        states = self.books.open_escrows(at_most=_STATES_MAX)
        number = batch.to.number
        held = usdc_at(self.chain, list(booked), batch.to, seen)
        usdc = {account: held[account] - amount for account, amount in booked.items()}
        if not states:
            return Differences(usdc)
        told = self.chain.escrows_at(sorted(states), block_number=number)
        for event in batch.events:
            if event.escrow_id in states:
                funded = event.kind is EventKind.ESCROW_FUNDED
                state = EscrowState.FUNDED if funded else event.state
                states[event.escrow_id] = state or states[event.escrow_id]
        on_chain = {(i, told[i].state if i in told else None) for i in states}
        return Differences(usdc, frozenset(on_chain - set(states.items())))


def usdc_at(
    chain: ChainReader, accounts: Sequence[str], block: Block, seen: Observation | None
) -> Mapping[str, Usdc]:
    """Return the accounts' USDC after ``block``; what was ``seen`` of it is not read again."""
    known = seen.usdc if seen is not None and seen.head == block else {}
    wanted = [account for account in accounts if account not in known]
    told = chain.usdc_of(wanted, block_number=block.number) if wanted else {}
    return {**{a: known[a] for a in accounts if a in known}, **told}
