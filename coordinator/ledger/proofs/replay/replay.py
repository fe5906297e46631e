"""Replay a log row by row, and name each signature, an approver's or our own, that is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from coordinator.domain.audit import AuditRow
from coordinator.domain.errors import CoordinatorError
from coordinator.domain.statements.pins import Pins
from coordinator.domain.typed_data import Trust
from coordinator.ledger.proofs.replay import accounts, increases, policies, proposals, purchases
from coordinator.ledger.proofs.replay.accounts import ReplayedAccounts
from coordinator.ledger.proofs.replay.increases import ReplayedIncreases
from coordinator.ledger.proofs.replay.policies import ReplayedPolicies
from coordinator.ledger.proofs.replay.proposals import ReplayedProposals
from coordinator.ledger.proofs.replay.purchases import ReplayedPurchases
from coordinator.ledger.proofs.replay.words import RecordedSafe, Words, told

_UNREADABLE: Final = (
    *(ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError),
    CoordinatorError,
)


@dataclass(frozen=True, slots=True)
class Signatures:
    """The signatures of approvers that count, and what no log proves by itself.

    ``safes``: those of Safes, whose owners only the chain knows. ``unsigned``: the rows of versions
    of the policy that nobody signed and that are believed: they say who the approvers are.
    """

    counted: int = 0
    safes: tuple[RecordedSafe, ...] = ()
    unsigned: tuple[str, ...] = ()


class SignatureReplay:
    """Takes the rows of a log in their order; each costs the same, however long the log is."""

    def __init__(self, trust: Trust | None, pins: Pins | None = None) -> None:
        self._words = Words(trust)
        bought, asked = ReplayedPurchases(self._words), ReplayedIncreases(self._words)
        agreed = ReplayedProposals(self._words, bought.find)
        self._accounts = ReplayedAccounts(trust)
        self._policies = ReplayedPolicies(self._words, agreed.agreed, pins)
        self._takes: dict[str, list[Callable[[AuditRow], Iterable[str]]]] = {}
        for events, take in (
            # What is carried out of a proposal is judged by the purchase as it was before.
            (proposals.EVENTS, agreed.take),
            (purchases.EVENTS, bought.take),
            (increases.EVENTS, asked.take),
            (policies.EVENTS, self._policies.take),
            (accounts.EVENTS, self._accounts.take),
        ):
            for event in events:
                self._takes.setdefault(event, []).append(take)

    def take(self, row: AuditRow) -> Iterator[str]:
        """Name what is wrong with the next row's signatures."""
        for take in self._takes.get(row.event, ()):
            try:
                for fault in take(row):
                    yield f"{told(row)}: {fault}"
            except _UNREADABLE as fault:
                yield f"{told(row)}: it is not what is written here ({fault})"

    def faults(self) -> Iterator[str]:
        """Name what is wrong with the log as a whole, after its last row."""
        yield from self._accounts.faults()

    def found(self) -> Signatures:
        """Return what counts so far."""
        words = self._words
        return Signatures(
            words.counted, tuple(words.safes), tuple(self._policies.unsigned.values())
        )
