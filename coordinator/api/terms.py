"""Keyword arguments of an agent's requests, for type checkers and the check at run time."""

# No `from __future__ import annotations`: Python would not see what is Required.
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, Required, TypedDict

from coordinator.domain.errors import InvalidRequest
from coordinator.domain.usdc import Amount


class PurchaseTerms(TypedDict, total=False):
    """Keyword arguments of ``Agent.purchase``."""

    provider: Required[str]
    amount: Required[Amount]
    purpose: Required[str]
    service: str | None
    category: str | None
    task: str | None
    session: str | None
    idempotency_key: str | None
    unless_duplicate: bool
    wait: bool
    timeout_seconds: float


class CostTerms(TypedDict, total=False):
    """Keyword arguments of ``Agent.hold`` and ``record`` beside the amount."""

    category: str | None
    provider: str | None
    task: str | None
    session: str | None
    purpose: str | None
    x402: bool


class WaitTerms(TypedDict, total=False):
    """Keyword arguments of ``Agent.wait_for`` beside the purchase."""

    until: str
    timeout_seconds: float


def check_terms(given: Mapping[str, Any], kind: type[Any]) -> None:
    """Refuse names that ``kind`` (a TypedDict) lacks, and name missing required ones.

    InvalidRequest names them all.
    """
    known, required = sorted(kind.__annotations__), sorted(kind.__required_keys__)
    faults = []
    for name in sorted(set(given) - set(known)):
        near = get_close_matches(name, known, n=1)
        faults.append(f"there is no {name}" + (f" (did you mean {near[0]}?)" if near else ""))
    faults += [f"{name} is missing" for name in required if name not in given]
    if faults:
        raise InvalidRequest(f"{'; '.join(faults)}: the terms are {', '.join(known)}")
