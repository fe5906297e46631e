"""Write answers: what the Python API returned, as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from fastapi import Response

from coordinator.domain.purchase.purchase import Purchase
from coordinator.domain.usdc import Usdc
from coordinator.monitoring.logs import request_ids


def answer(result: Any) -> Response:
    """Respond with a result of the Python API, in the names of its ``as_dict``."""
    ids = request_ids()
    if ids is not None and isinstance(result, Purchase):
        ids.purchase_id = result.id
    # Not orjson: amounts of wei are longer than 64 bits.
    text = json.dumps(_plain(result), default=_plain, separators=(",", ":"), allow_nan=False)
    return Response(text, media_type="application/json")


def page(found: Sequence[Any], limit: int, cursor: str) -> Response:
    """Respond with a page: ``next`` is the last item's ``cursor`` while there may be more."""
    items = [_plain(item) for item in found]
    more = len(items) == limit
    return answer({"items": items, "next": items[-1][cursor] if more else None})


def _plain(value: Any) -> Any:
    if isinstance(value, Usdc):
        return str(value)
    return value.as_dict() if hasattr(value, "as_dict") else value
