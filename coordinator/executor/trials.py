"""Ask the contracts about purchases that failed together, before they are made again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from coordinator.domain.chain.steps import MISSED, Call
from coordinator.domain.ports import Observation, Rail

# As many as one call of a node still runs; the rest waits for the next round.
_ASKED_MAX: Final = 25

MadeAt = Callable[[int], Sequence[Call]]
"""A purchase's create and link, with its escrow's id by the rail's count of creates."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a purchase goes on, now (``go``) or later, or why the contracts refuse it."""

    go: bool
    refusal: str | None = None


_GO: Final = Verdict(True)
_LATER: Final = Verdict(False)


class Trials:
    """Finds who of a failed batch was the reason: nothing is sent, so it costs no gas.

    Those of a round that the contracts accept are tried together, as they will be made: what they
    refuse only behind the others waits until these are mined.
    """

    def __init__(self, chain: Rail) -> None:
        self._chain = chain
        self.begin()

    def begin(self) -> None:
        """Begin a round."""
        self._accepted: list[Call] = []
        self._asked = self._number = 0

    def judge(self, made_at: MadeAt, seen: Observation) -> Verdict:
        """Ask whether the contracts would take the purchase in the block after what was seen."""
        if self._asked == _ASKED_MAX:
            return _LATER
        self._asked += 1
        calls = made_at(seen.create_nonce + self._number)
        refusal = self._refusal([*self._accepted, *calls], seen)
        if refusal is not None and self._accepted:
            refusal = self._refusal(made_at(seen.create_nonce), seen)
            if refusal is None:
                return _LATER
        if refusal is None:
            self._accepted += calls
            self._number += 1
            return _GO
        # A node that counts escrows otherwise than it told says nothing of the purchase.
        return _GO if refusal.startswith(MISSED) else Verdict(False, refusal)

    def _refusal(self, calls: Sequence[Call], seen: Observation) -> str | None:
        made = self._chain.composed(calls)
        # What takes several transactions is told by their receipts.
        if len(made) > 1:
            return None
        return self._chain.refusal(made[0], block_number=seen.head.number)
