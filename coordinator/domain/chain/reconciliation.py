"""Differences between the books and the chain, each with a stable id."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from coordinator.domain.chain.journal import Entry, EntryKind
from coordinator.domain.shown import Shown
from coordinator.domain.usdc import Usdc

FOUND_MAX: Final = 1000


@dataclass(frozen=True, slots=True)
class Discrepancy(Shown):
    """One difference; ``action`` is the command that deals with it."""

    kind: str
    detail: str
    action: str
    amount: Usdc | None = None
    purchase_id: str | None = None
    escrow_id: str | None = None
    about: str | None = None

    @property
    def id(self) -> str:
        """The same difference has the same id, every time it is found.

        ``about`` stands in it for a detail that changes from time to time.
        """
        parts = (self.kind, self.purchase_id or "", self.escrow_id or "", self.about or self.detail)
        return "dis_" + sha256("\n".join(parts).encode()).hexdigest()[:20]

    def as_dict(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "kind": self.kind,
            "purchase_id": self.purchase_id,
            "escrow_id": self.escrow_id,
            "amount": str(self.amount) if self.amount is not None else None,
            "detail": self.detail,
            "action": self.action,
        }


@dataclass(frozen=True, slots=True)
class Reconciliation(Shown):
    """The result of a comparison: its blocks, and every difference that is not explained."""

    from_block: int
    to_block: int
    events: int
    discrepancies: tuple[Discrepancy, ...]

    def as_dict(self) -> dict[str, Any]:
        return {
            "from_block": self.from_block,
            "to_block": self.to_block,
            "events": self.events,
            "discrepancies": [d.as_dict() for d in self.discrepancies],
        }


@dataclass(frozen=True, slots=True)
class Rescan:
    """A comparison of every entry from a block on, as far as it has come.

    The first FOUND_MAX differences are kept; ``more`` counts those after them.
    """

    from_block: int
    reached: int
    events: int = 0
    found: tuple[Discrepancy, ...] = ()
    more: int = 0

    def with_part(self, reached: int, events: int, found: Iterable[Discrepancy]) -> Rescan:
        """Return the comparison after one more range of blocks."""
        kept, more = list(self.found), self.more
        for difference in found:
            if len(kept) < FOUND_MAX:
                kept.append(difference)
            else:
                more += 1
        return Rescan(self.from_block, reached, self.events + events, tuple(kept), more)

    def differences(self) -> Iterator[Discrepancy]:
        """Yield the differences kept, and one that counts the rest."""
        yield from self.found
        if self.more:
            yield Discrepancy(
                "more_entries_differ",
                f"{self.more:,} more entries from block {self.from_block} on differ",
                f"deal with those above, then coordinator reconcile --from-block {self.from_block}",
            )


def differing_entries(made: Iterable[Entry], booked: Iterable[Entry]) -> Iterator[Discrepancy]:
    """Compare the journal, except where it began, with the entries made from the chain's events."""
    want = {(e.block_hash, e.log_index): e for e in made}
    have = {(e.block_hash, e.log_index): e for e in booked}
    have = {k: e for k, e in have.items() if k in want or e.kind is not EntryKind.OPENING}
    for key in sorted(want.keys() | have.keys()):
        wanted, found = want.get(key), have.get(key)
        if wanted == found:
            continue
        entry = wanted or found
        assert entry is not None
        if found is None:
            kind, text = "entry_missing", "is on chain and not in the journal"
        elif wanted is None:
            kind, text = "entry_unknown", "is in the journal and not on chain"
        else:
            kind, text = "entry_differs", f"stands in the journal as {found.amount} USDC"
        yield Discrepancy(
            kind,
            f"{entry.kind} of {entry.amount} USDC in {entry.tx_hash} {text}",
            "coordinator audit verify",
            amount=entry.amount,
        )
