"""Times as people type them."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import Final

from coordinator.domain.errors import InvalidRequest

_AGO: Final = re.compile(r"([1-9][0-9]{0,5})(m|h|d)", re.ASCII)
_SECONDS: Final = {"m": 60, "h": 3600, "d": 86_400}


def moment(text: str | None) -> int | None:
    """The unix second of ``24h`` (ago), ``2026-05-01`` (its start, UTC) or RFC 3339."""
    if text is None:
        return None
    if ago := _AGO.fullmatch(text):
        return int(time.time()) - int(ago[1]) * _SECONDS[ago[2]]
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidRequest(
            f"{text[:40]!r} is not a time: write 24h, 7d, 2026-05-01 or 2026-05-01T12:00:00Z"
        ) from None
    return int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp())
