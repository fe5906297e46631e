"""Obstacles of unfinished purchases, each with its remedy in one sentence."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from coordinator.domain.shown import Shown


class BlockerCode(StrEnum):
    """The codes of blockers: obstacles that time alone does not remove."""

    PAUSED = "paused"
    NOBODY_ACTS = "nobody_acts"
    ENDPOINT = "chain_unavailable"
    FEE_CEILING = "fees_above_ceiling"
    GAS = "gas_balance_low"
    RAIL = "rail_trouble"
    LANE = "lane_stuck"


@dataclass(frozen=True, slots=True)
class Blocker(Shown):
    """The first obstacle of a purchase; ``message`` says how to remove it."""

    code: BlockerCode
    message: str

    def as_dict(self) -> dict[str, Any]:
        return {"code": self.code.value, "message": self.message}
