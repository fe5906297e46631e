"""Every difference between a treasury's limits and what its chain has, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from coordinator.chain.rpc.client import Rpc
from coordinator.chain.safe.conditions import Operator, unpacked
from coordinator.chain.safe.configuration import CREATE, Places, scopes
from coordinator.chain.safe.create2 import word
from coordinator.chain.safe.limits import ChainLimits
from coordinator.chain.safe.on_chain import OnChain
from coordinator.chain.safe.proof import Expected, Place, expected, read
from coordinator.chain.safe.roles_storage import scope_word
from coordinator.chain.safe.storage import address, usdc
from coordinator.domain.address import keccak256

_POINTER_BITS = 160
_COUNT_START = 240
# An amount and a deadline.
_BOUNDS = 2


@dataclass(frozen=True, slots=True)
class PurchaseTerms:
    """The terms of purchases on the chain: hashes of payees, and bounds of amount and deadline."""

    payees: frozenset[bytes]
    amount_below: int
    deadline_before: int


def differences(
    rpc: Rpc,
    places: Places,
    limits: ChainLimits,
    on_chain: OnChain,
    providers: Mapping[str, str],
) -> list[str]:
    """Prove the configuration by the words of its storage; return what is not as it must be.

    ``providers`` are the names of their addresses.
    """
    if not on_chain.created:
        return [f"there is no Safe at {places.safe}"]
    found = [*_owners(limits, on_chain)]
    if not on_chain.set_up:
        return [*found, f"the Safe has no roles at {places.roles}"]
    due = expected(
        places,
        _with_owners(limits, on_chain.owners) if found else limits,
        time=on_chain.time,
        owners_in_order=on_chain.owners,
    )
    found += due.differences(read(rpc, due, block=on_chain.tag))
    terms = purchase_terms(rpc, places, limits, on_chain)
    return [*found, *_of_purchases(terms, limits, providers)] if terms is not None else found


def purchase_terms(
    rpc: Rpc, places: Places, limits: ChainLimits, on_chain: OnChain
) -> PurchaseTerms | None:
    """Read the terms of purchases from the chain; None where they have another shape."""
    scope = next(scope for scope in scopes(places, limits) if scope.function is CREATE)
    kept = scope_word(places.roles, scope)
    place = Place(kept.contract, kept.slot)
    said = read(rpc, Expected((kept,), {}), block=on_chain.tag).words[place]
    pointer = address(said & (1 << _POINTER_BITS) - 1)
    if len(pointer) != 42:
        return None
    code = str(rpc.call("eth_getCode", pointer, on_chain.tag)).removeprefix("0x")
    try:
        laid = unpacked(bytes.fromhex(code), said >> _COUNT_START)
    except ValueError:
        return None
    below = [int.from_bytes(row.value, "big") for row in laid if row.operator is Operator.LESS_THAN]
    if len(below) != _BOUNDS:
        return None
    payees = frozenset(row.value for row in laid if row.operator is Operator.EQUAL_TO)
    return PurchaseTerms(payees, *below)


def _owners(limits: ChainLimits, on_chain: OnChain) -> Iterator[str]:
    for owner in on_chain.owners:
        if owner not in limits.owners:
            yield f"{owner} owns the Safe, and is no owner in the policy"
    for owner in limits.owners:
        if owner not in on_chain.owners:
            yield f"{owner} does not own the Safe, and is an owner in the policy"


def _with_owners(limits: ChainLimits, owners: Sequence[str]) -> ChainLimits:
    try:
        return replace(limits, owners=tuple(owners))
    except ValueError:
        return limits


def _of_purchases(
    terms: PurchaseTerms, limits: ChainLimits, providers: Mapping[str, str]
) -> Iterator[str]:
    hashes = {keccak256(word(one)): one for one in limits.providers}
    for hashed, one in hashes.items():
        if hashed not in terms.payees:
            yield f"providers.{providers.get(one, one)} has no place on the chain"
    if further := len(terms.payees - hashes.keys()):
        yield f"the chain lets {further} further be paid, whom the policy does not list there"
    most = limits.purchase_max.base_units + 1
    if terms.amount_below != most:
        found = usdc(terms.amount_below - 1)
        yield f"the chain lets a purchase be {found}, and the policy {limits.purchase_max}"
    if terms.deadline_before != limits.deadline_before:
        chain, policy = map(_day, (terms.deadline_before, limits.deadline_before))
        yield f"the chain bounds deadlines by {chain}, and the policy by {policy}"


def _day(second: int) -> str:
    try:
        return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%d %H:%M}"
    except (OverflowError, ValueError, OSError):
        return f"the second {second}"
