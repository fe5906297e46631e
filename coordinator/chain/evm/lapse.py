"""Pause the use of what an endpoint was found to lack."""

from __future__ import annotations

from typing import Final

_PASSED_BY: Final = 100


class Lapse:
    """Something that is not asked for a while after an endpoint did not have it.

    One odd answer is no proof: it is tried again after a hundred times without it.
    """

    def __init__(self) -> None:
        self._left = 0

    @property
    def lasts(self) -> bool:
        return self._left > 0

    def begin(self) -> None:
        """Note that it was not there."""
        self._left = _PASSED_BY

    def pass_by(self) -> bool:
        """Do without it once more; False when it is to be tried."""
        lasts, self._left = self.lasts, max(0, self._left - 1)
        return lasts
