"""The limits as calls of the Safe's owners: one transaction makes the role and all it may do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from coordinator.chain.safe.addresses import MODULE_PROXY_FACTORY
from coordinator.chain.safe.allowances import Allowance
from coordinator.chain.safe.conditions import (
    Condition,
    all_of,
    any_of,
    anything,
    call_with,
    calls_within,
    equal_to,
    less_than,
    the_safe,
    within,
)
from coordinator.chain.safe.limits import ChainLimits
from coordinator.chain.safe.multisend import InnerCall
from coordinator.chain.safe.roles import (
    assign_roles,
    deploy_module,
    key,
    module_address,
    scope_function,
    scope_target,
    set_allowance,
    set_unwrapper,
)
from coordinator.chain.safe.safe_transactions import ENABLE_MODULE, safe_address
from coordinator.chain.safe.signatures import Signature

PURCHASES: Final = key("coordinator")
DISPUTES: Final = key("coordinator-disputes")
DAILY: Final = key("daily")
TOTAL: Final = key("total")
BONDS: Final = key("bonds")
DISPUTE_COUNT: Final = key("disputes")
X402: Final = key("x402")

APPROVE: Final = Signature("approve(address,uint256)")
TRANSFER: Final = Signature("transfer(address,uint256)")
CREATE: Final = Signature(
    "createTransaction(address,address,uint256,uint256,uint256,bytes32,uint256,uint256)"
)
LINK: Final = Signature("linkEscrow(bytes32,address,bytes32)")
TRANSITION: Final = Signature("transitionState(bytes32,uint8,bytes)")
# The kernel's numbers of the states that a requester moves to.
_SETTLED, _DISPUTED, _CANCELLED = 5, 6, 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """The treasury's own contracts and those that it pays through."""

    safe: str
    roles: str
    kernel: str
    vault: str
    usdc: str

    @classmethod
    def predicted(
        cls, limits: ChainLimits, *, kernel: str, vault: str, usdc: str, salt_nonce: int = 0
    ) -> Places:
        """Return where a treasury with these owners is deployed, whoever deploys it."""
        safe = safe_address(limits.owners, limits.threshold, salt_nonce=salt_nonce)
        roles = module_address(safe, salt_nonce)
        return cls(safe=safe, roles=roles, kernel=kernel, vault=vault, usdc=usdc)


@dataclass(frozen=True, slots=True)
class Scope:
    """A function that a role may call, and with what."""

    role: bytes
    target: str
    function: Signature
    condition: Condition


def set_up(places: Places, limits: ChainLimits, *, salt_nonce: int = 0) -> list[InnerCall]:
    """Return the owners' calls that make a Safe's role, all in one transaction."""
    roles = deploy_module(places.safe, salt_nonce)
    enabling = ENABLE_MODULE.call(places.roles)
    return [
        InnerCall(MODULE_PROXY_FACTORY.address, roles, f"deploy the Safe's roles {places.roles}"),
        InnerCall(places.safe, enabling, f"let {places.roles} call in the Safe's name"),
        *configure(places, limits),
    ]


def configure(places: Places, limits: ChainLimits) -> list[InnerCall]:
    """Return the owners' calls that set every limit, each allowance full again.

    What an earlier configuration allowed and this one does not name stays allowed.
    """
    granted = granted_roles(limits)
    calls = [
        InnerCall(places.usdc, APPROVE.call(places.vault, 0), "take back any approval that stands"),
        InnerCall(places.roles, set_unwrapper(), "judge calls through MultiSend one by one"),
    ]
    for allowance_key, allowance in allowances(limits).items():
        title = f"set the allowance {name(allowance_key)}"
        calls.append(InnerCall(places.roles, set_allowance(allowance_key, allowance), title))
    for role, target in targets(places, limits):
        title = f"let {name(role)} call {target}"
        calls.append(InnerCall(places.roles, scope_target(role, target), title))
    calls += [_scoped(places.roles, scope) for scope in scopes(places, limits)]
    title = f"give {limits.member} the roles {' and '.join(map(name, granted))}"
    return [*calls, InnerCall(places.roles, assign_roles(limits.member, granted), title)]


def allowances(limits: ChainLimits) -> dict[bytes, Allowance]:
    """Return every allowance as it is when it is full."""
    made = {DAILY: limits.bucket}
    if limits.once is not None:
        made[TOTAL] = limits.once
    if limits.disputes is not None:
        made |= {BONDS: limits.disputes.bonds, DISPUTE_COUNT: limits.disputes.count}
    if limits.x402 is not None:
        made[X402] = limits.x402.transfers
    return made


def scopes(places: Places, limits: ChainLimits) -> list[Scope]:
    """Return all that the roles may do; the limit stands where the vault gets its approval.

    A limit on creating escrows would let a key hoard them, and link many at once.
    """
    made = [*_purchases(places, limits)]
    if limits.disputes is not None:
        made += _disputes(places)
    if limits.x402 is not None:
        paid = call_with(equal_to(limits.x402.wallet), within(X402))
        made.append(Scope(PURCHASES, places.usdc, TRANSFER, paid))
    return made


def targets(places: Places, limits: ChainLimits) -> list[tuple[bytes, str]]:
    """Return which role calls which contract; MultiSend itself must never be among them."""
    return list(dict.fromkeys((s.role, s.target) for s in scopes(places, limits)))


def granted_roles(limits: ChainLimits) -> list[bytes]:
    """Return the roles of the worker's key; two are simpler than one with branches."""
    return [PURCHASES] if limits.disputes is None else [PURCHASES, DISPUTES]


def name(raw: bytes) -> str:
    """Return the key of a role or an allowance as text."""
    return raw.rstrip(b"\0").decode("ascii", "replace")


def _purchases(places: Places, limits: ChainLimits) -> Iterator[Scope]:
    counted = [within(DAILY)] if limits.total is None else [within(DAILY), within(TOTAL)]
    approved = call_with(equal_to(places.vault), all_of(*counted))
    created = call_with(
        any_of(*map(equal_to, limits.providers)),
        the_safe(),
        less_than(limits.purchase_max.base_units + 1),
        less_than(limits.deadline_before),
    )
    linked = call_with(anything(), equal_to(places.vault))
    ended = call_with(anything(), any_of(equal_to(_SETTLED), equal_to(_CANCELLED)))
    yield Scope(PURCHASES, places.usdc, APPROVE, approved)
    yield Scope(PURCHASES, places.kernel, CREATE, created)
    yield Scope(PURCHASES, places.kernel, LINK, linked)
    yield Scope(PURCHASES, places.kernel, TRANSITION, ended)


def _disputes(places: Places) -> Iterator[Scope]:
    bonded = call_with(equal_to(places.vault), within(BONDS))
    opened = call_with(anything(), equal_to(_DISPUTED), calls_within(DISPUTE_COUNT))
    yield Scope(DISPUTES, places.usdc, APPROVE, bonded)
    yield Scope(DISPUTES, places.kernel, TRANSITION, opened)


def _scoped(roles: str, scope: Scope) -> InnerCall:
    data = scope_function(scope.role, scope.target, scope.function.selector, scope.condition)
    title = f"let {name(scope.role)} call {scope.function.name} of {scope.target}, within limits"
    return InnerCall(roles, data, title)
