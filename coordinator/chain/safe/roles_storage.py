"""The storage of the Zodiac Roles Modifier 2.1.0: members, scopes and allowances."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from coordinator.chain.safe.addresses import MULTI_SEND, UNWRAPPER
from coordinator.chain.safe.allowances import Allowance
from coordinator.chain.safe.conditions import pointer, rows
from coordinator.chain.safe.configuration import (
    CREATE,
    DISPUTE_COUNT,
    LINK,
    TRANSFER,
    Places,
    Scope,
    allowances,
    granted_roles,
    name,
    scopes,
    targets,
)
from coordinator.chain.safe.create2 import address_bytes, word
from coordinator.chain.safe.limits import ChainLimits
from coordinator.chain.safe.multisend import MULTI_SEND_FUNCTION
from coordinator.chain.safe.safe_storage import listed
from coordinator.chain.safe.signatures import Signature
from coordinator.chain.safe.storage import Part, Shown, Word, address, mapped, seconds, usdc
from coordinator.domain.address import ZERO_ADDRESS

# OpenZeppelin's places of Ownable and Initializable (ERC-7201), then in the contract's order.
_OWNER: Final = 0x9016D09D72D40FDAE2FD8CEAC6B6234C7706214FD39C1CD1E609A0528C199300
_INITIALIZED: Final = 0xF0C57E16840DF040F15088DC2F81FE391C3923BEC73E23A9662EFC9C229C6A00
_AVATAR: Final = 0
_TARGET: Final = 1
_MODULES: Final = 3
_ROLES: Final = 4
_ALLOWANCES: Final = 5
_UNWRAPPERS: Final = 6
_DEFAULT_ROLES: Final = 7
# A target's clearance: the role calls only what is scoped.
_BY_FUNCTION: Final = 2
# Functions by which USDC leaves or a purchase grows past its limits.
_OF_TOKEN: Final = (
    TRANSFER,
    Signature("transferFrom(address,address,uint256)"),
    Signature("increaseAllowance(address,uint256)"),
)
_OF_KERNEL: Final = (
    CREATE,
    LINK,
    Signature("acceptQuote(bytes32,uint256)"),
    Signature("releaseMilestone(bytes32,uint256)"),
)


def actor_words(roles: str, safe: str, member: str) -> Iterator[Word]:
    """Yield whose the roles are, and that ``member`` alone uses them, whatever the limits."""
    for slot, title in ((_OWNER, "owner"), (_AVATAR, "avatar"), (_TARGET, "target")):
        yield _address(roles, slot, f"the {title} of the roles", safe)
    once = Part(title="the number of set-ups of the roles", value=1)
    yield Word(roles, _INITIALIZED, (once,))
    yield from listed(roles, _MODULES, "the key that has roles", [member])
    yield unwrapper_word(roles)


def roles_words(places: Places, limits: ChainLimits, time: int) -> Iterator[Word]:
    """Yield what the storage of Roles must be at a block of the unix second ``time``."""
    roles, member = places.roles, limits.member
    yield from actor_words(roles, places.safe, member)
    default = Part(title=f"the default role of {member}", value=0, shown=_key)
    yield Word(roles, mapped(word(member), _DEFAULT_ROLES), (default,))
    for role in granted_roles(limits):
        yield membership_word(roles, role, member)
    for role, target in targets(places, limits):
        yield clearance_word(roles, role, target)
    for scope in scopes(places, limits):
        yield scope_word(roles, scope)
    for role, target in never_targets(places, limits):
        yield clearance_word(roles, role, target, cleared=False)
    for role, target, function in never_functions(places, limits):
        yield permission_word(roles, role, target, function)
    for allowance_key, allowance in allowances(limits).items():
        yield from allowance_words(roles, allowance_key, allowance, time)


def unwrapper_word(roles: str) -> Word:
    """Return that calls by MultiSendCallOnly are judged one by one."""
    multi_send = address_bytes(MULTI_SEND.address) + MULTI_SEND_FUNCTION.selector
    slot = mapped(multi_send.ljust(32, b"\0"), _UNWRAPPERS)
    return _address(roles, slot, "the unwrapper of MultiSendCallOnly", UNWRAPPER.address)


def membership_word(roles: str, role: bytes, member: str, *, member_of: bool = True) -> Word:
    """Return that the account has the role, or has it not."""
    title = f"the membership of {member} in the role {name(role)}"
    return Word(
        roles, mapped(word(member), _base(role)), (Part(title=title, value=int(member_of)),)
    )


def clearance_word(roles: str, role: bytes, target: str, *, cleared: bool = True) -> Word:
    """Return that the role may call scoped functions of the target, or nothing of it."""
    title = f"the clearance of the role {name(role)} for {target}"
    clearance = Part(title=title, value=_BY_FUNCTION if cleared else 0)
    return Word(roles, mapped(word(target), _base(role) + 1), (clearance,))


def permission_word(roles: str, role: bytes, target: str, function: Signature) -> Word:
    """Return that the role may not call the function."""
    title = f"the permission of the role {name(role)} for {function.name}"
    part = Part(title=title, value=0, shown=hex)
    return Word(roles, _scope_slot(role, target, function), (part,))


def never_targets(places: Places, limits: ChainLimits) -> list[tuple[bytes, str]]:
    """Return which role must never call which contract; others no word of storage names.

    MultiSendCallOnly takes the zero address for the Safe.
    """
    never = (places.safe, places.roles, MULTI_SEND.address, ZERO_ADDRESS)
    return [(role, target) for role in granted_roles(limits) for target in never]


def never_functions(places: Places, limits: ChainLimits) -> Iterator[tuple[bytes, str, Signature]]:
    """Yield each role with the functions that would undo its limits, and their contracts."""
    for role in granted_roles(limits):
        given = {(s.target, s.function) for s in scopes(places, limits) if s.role == role}
        for target, functions in ((places.usdc, _OF_TOKEN), (places.kernel, _OF_KERNEL)):
            yield from ((role, target, f) for f in functions if (target, f) not in given)


def _scope_slot(role: bytes, target: str, function: Signature) -> int:
    packed = address_bytes(target) + function.selector
    return mapped(packed.ljust(32, b"\0"), _base(role) + 2)


def scope_word(roles: str, scope: Scope) -> Word:
    """Return that the role may call the function under these very conditions."""
    slot = _scope_slot(scope.role, scope.target, scope.function)
    title = f"of the role {name(scope.role)} for {scope.function.name} of {scope.target}"
    conditions = int(pointer(scope.condition), 16)
    count = len(rows(scope.condition))
    parts = (
        Part(title=f"the conditions {title}", value=conditions, bits=160, shown=address),
        Part(title=f"the padding {title}", value=0, start=160, bits=56),
        Part(title=f"the wildcard {title}", value=0, start=216, bits=8),
        Part(title=f"the options {title}", value=0, start=224, bits=8),
        Part(title=f"the rest {title}", value=0, start=232, bits=8),
        Part(title=f"the number of conditions {title}", value=count, start=240, bits=16),
    )
    return Word(roles, slot, parts)


def allowance_words(roles: str, allowance_key: bytes, full: Allowance, time: int) -> Iterator[Word]:
    """Yield the two words of an allowance at a block of the unix second ``time``."""
    slot, of = allowance_slot(allowance_key), f"of the allowance {name(allowance_key)}"
    shown: Shown = str if allowance_key == DISPUTE_COUNT else usdc
    yield Word(
        roles,
        slot,
        (
            Part(title=f"the refill {of}", value=full.refill, bits=128, shown=shown),
            Part(title=f"the size {of}", value=full.max_refill, start=128, bits=128, shown=shown),
        ),
    )
    left = Part(
        title=f"the rest {of}", value=full.balance, start=64, bits=128, at_most=True, shown=shown
    )
    since = Part(title=f"the time {of}", value=time, start=192, bits=64, at_most=True)
    period = Part(title=f"the period {of}", value=full.period, bits=64, shown=seconds)
    yield Word(roles, slot + 1, (period, left, since))


def allowance_slot(allowance_key: bytes) -> int:
    """Return the first of an allowance's two words: refill and size, then period, rest and time."""
    return mapped(allowance_key, _ALLOWANCES)


def _base(role: bytes) -> int:
    return mapped(role, _ROLES)


def _address(contract: str, slot: int, title: str, value: str) -> Word:
    part = Part(title=title, value=int(value, 16), shown=address)
    return Word(contract, slot, (part,))


def _key(found: int) -> str:
    return name(found.to_bytes(32, "big")) if found else "none"
