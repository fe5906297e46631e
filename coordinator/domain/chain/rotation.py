"""A former account of the treasury: what is left to do until it is ours no more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from coordinator.domain.shown import Shown
from coordinator.domain.typed_data import Trust, TypedData
from coordinator.domain.usdc import Usdc

# So much may be left behind: anybody may send as little again and again.
DUST_BELOW: Final = Usdc("1")
_SUCCESSION: Final = (
    ("treasury", "address"),
    ("successor", "address"),
    ("afterRow", "uint256"),
    ("rotatedAt", "uint256"),
)


def succession(trust: Trust, successor: str, *, after_row: int, at: int) -> TypedData:
    """Return what the former key signs: who follows it, and after which row of the log."""
    values = (trust.treasury, successor, after_row, at)
    return TypedData(trust, "TreasurySuccession", _SUCCESSION, values)


@dataclass(frozen=True, slots=True)
class OpenEscrow:
    """An escrow that only the former account can end."""

    escrow_id: str
    purchase_id: str | None
    state: str
    amount: Usdc


@dataclass(frozen=True, slots=True, kw_only=True)
class FormerAccount(Shown):
    """A former account by the books; ``gas_balance_wei`` as the worker last read it.

    Its USDC or an escrow of its moved last in block ``moved_at``.
    """

    address: str
    first_block: int
    last_block: int | None
    usdc: Usdc
    gas_balance_wei: int
    in_flight: int
    escrows: tuple[OpenEscrow, ...]
    moved_at: int
    final_block: int

    @property
    def waits_for(self) -> tuple[str, ...]:
        """Everything left to do before it can be ours no more."""
        if self.last_block is not None:
            return ()
        found = []
        if self.escrows:
            total = sum(escrow.amount.base_units for escrow in self.escrows)
            found.append(f"{len(self.escrows)} escrows of {Usdc.from_base_units(total)} USDC open")
        if self.in_flight:
            found.append(f"{self.in_flight} transactions in flight")
        if self.usdc >= DUST_BELOW:
            found.append(f"{self.usdc} USDC to move")
        if self.moved_at > self.final_block:
            found.append(f"block {self.moved_at} to become final")
        return tuple(found)

    def as_dict(self) -> dict[str, Any]:
        return {
            "address": self.address,
            "first_block": self.first_block,
            "last_block": self.last_block,
            "usdc": str(self.usdc),
            "gas_balance_wei": self.gas_balance_wei,
            "in_flight": self.in_flight,
            "escrows": [
                {
                    "escrow_id": escrow.escrow_id,
                    "purchase_id": escrow.purchase_id,
                    "state": escrow.state,
                    "amount": str(escrow.amount),
                }
                for escrow in self.escrows
            ],
            "waits_for": list(self.waits_for),
        }
