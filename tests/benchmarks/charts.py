"""What is to be drawn of a part's summary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Chart:
    """Bars by series and label: ``values[series][label]``; what is missing has no bar."""

    title: str
    values: Mapping[str, Mapping[str, float | None]]
    # Bars of very different lengths are all to be seen.
    logarithmic: bool = False

    @property
    def labels(self) -> list[str]:
        return list(dict.fromkeys(label for bars in self.values.values() for label in bars))
