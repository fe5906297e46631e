"""Port of the rounds for a former account of the treasury."""

from __future__ import annotations

from typing import Protocol


class Former(Protocol):
    """Rounds for a former account of the treasury, after those of the present one."""

    @property
    def busy(self) -> bool: ...
    @property
    def sends_usdc(self) -> bool: ...
    def run_round(self, *, quick: bool, again: bool, finalise: bool = True) -> bool: ...
    def release(self) -> None: ...
