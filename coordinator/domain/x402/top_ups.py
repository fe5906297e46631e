"""Top-ups: USDC that the treasury sends to the wallet which pays for HTTP requests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from coordinator.domain.usdc import ZERO, Usdc

#: The kind of the order, and of its step.
TOP_UP: Final = "top_up"
TOP_UP_PREFIX: Final = "top_"
#: The daily limit counts those that were signed in so many seconds, whoever asked for them.
WINDOW_SECONDS: Final = 86_400
#: The scopes, as (kind, id), of which each stops them.
STOPS: Final = (("organisation", ""), ("x402", ""))
# A part of what is missing costs as much gas as all of it.
_PART_MIN: Final = Usdc("1")


@dataclass(frozen=True, slots=True)
class Float:
    """USDC of the wallet, and what of it is held for payments that have not come to their end."""

    usdc: Usdc
    held: Usdc

    @property
    def free(self) -> Usdc:
        return self.usdc - self.held


def missing(found: Float, *, below: Usdc | None, to: Usdc | None) -> Usdc | None:
    """Return what fills the float; None above its mark, and where people fill it."""
    if below is None or to is None or found.free >= below:
        return None
    return to - found.free


@dataclass(frozen=True, slots=True)
class Headroom:
    """The most that can be sent: USDC that the treasury has beside holds, and the window's rest."""

    treasury: Usdc
    window: Usdc

    def refused(self, amount: Usdc) -> str | None:
        """Say why an amount can't be sent; None when it can."""
        if amount > self.window:
            return f"the policy's top_up_daily_limit leaves {max(ZERO, self.window)} USDC"
        if amount > self.treasury:
            return f"the treasury has {max(ZERO, self.treasury)} USDC beside what it holds"
        return None

    def of(self, wanted: Usdc) -> Usdc | None:
        """Return what of it can be sent; None where that is not worth its gas."""
        amount = min(wanted, self.treasury, self.window)
        return amount if amount == wanted or amount >= _PART_MIN else None
