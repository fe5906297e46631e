"""Canonical JSON: one byte string for equal values, to hash and chain."""

from __future__ import annotations

import json
from typing import Any, Final

import orjson

_encode: Final = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
).encode


def canonical_json(value: Any) -> bytes:
    """UTF-8 JSON with sorted keys and no spaces; integers and text only, never floats."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError:
        # Integers of more than 64 bits, such as a rich account's wei.
        return _encode(value).encode()
