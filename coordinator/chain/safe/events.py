"""Events of a Safe and its roles: spending from an allowance, and changes of the limits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from eth_abi.exceptions import DecodingError

from coordinator.chain.safe.allowances import Allowance
from coordinator.chain.safe.signatures import Signature
from coordinator.domain.address import ZERO_ADDRESS, checksummed
from coordinator.domain.errors import ChainUnavailable

CONSUME_ALLOWANCE: Final = Signature("ConsumeAllowance(bytes32,uint128,uint128)")
SET_ALLOWANCE: Final = Signature("SetAllowance(bytes32,uint128,uint128,uint128,uint64,uint64)")


@dataclass(frozen=True, slots=True)
class Consumed:
    """A role took ``amount`` from an allowance, which may be 0, and ``left`` stayed."""

    allowance_key: bytes
    amount: int
    left: int


@dataclass(frozen=True, slots=True)
class AllowanceSet:
    """The owners set an allowance, whatever was left of it."""

    allowance_key: bytes
    allowance: Allowance


@dataclass(frozen=True, slots=True)
class Changed:
    """The owners changed who may act, or what; ``sentence`` says it in words."""

    event: str
    sentence: str
    values: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class _Told:
    """An event and its sentence; a topic's word is read as if it stood before the data."""

    signature: Signature
    sentence: Callable[..., str]


def _changes() -> tuple[_Told, ...]:
    text, of = _text, Signature
    return (
        _Told(of("AssignRoles(address,bytes32[],bool[])"), _assigned),
        _Told(
            of("SetDefaultRole(address,bytes32)"), lambda a, r: f"{a} acts by the role {text(r)}"
        ),
        _Told(
            of("ScopeTarget(bytes32,address)"), lambda r, a: f"{text(r)} calls scoped parts of {a}"
        ),
        _Told(
            of("AllowTarget(bytes32,address,uint8)"),
            lambda r, a, _: f"{text(r)} may call everything of {a}",
        ),
        _Told(of("RevokeTarget(bytes32,address)"), lambda r, a: f"{text(r)} may not call {a}"),
        _Told(
            of("ScopeFunction(bytes32,address,bytes4,(uint8,uint8,uint8,bytes)[],uint8)"),
            lambda r, a, s, *_: f"{text(r)} may call 0x{s.hex()} of {a}, under conditions",
        ),
        _Told(
            of("AllowFunction(bytes32,address,bytes4,uint8)"),
            lambda r, a, s, _: f"{text(r)} may call 0x{s.hex()} of {a} with anything",
        ),
        _Told(
            of("RevokeFunction(bytes32,address,bytes4)"),
            lambda r, a, s: f"{text(r)} may not call 0x{s.hex()} of {a}",
        ),
        _Told(
            of("SetUnwrapAdapter(address,bytes4,address)"),
            lambda a, _, u: f"calls through {a} are judged by {u}",
        ),
        _Told(
            of("OwnershipTransferred(address,address)"),
            lambda _, new: f"{new} owns the roles",
        ),
        _Told(of("AvatarSet(address,address)"), lambda _, new: f"the roles act for {new}"),
        _Told(of("TargetSet(address,address)"), lambda _, new: f"the roles call {new}"),
        _Told(of("EnabledModule(address)"), lambda a: f"{a} may act as a module"),
        _Told(of("DisabledModule(address)"), lambda a: f"{a} may not act as a module"),
        _Told(of("AddedOwner(address)"), lambda a: f"{a} is an owner"),
        _Told(of("RemovedOwner(address)"), lambda a: f"{a} is no owner"),
        _Told(of("ChangedThreshold(uint256)"), lambda count: f"the threshold is {count}"),
        _Told(of("ChangedGuard(address)"), lambda a: f"{a} guards transactions"),
        _Told(of("ChangedModuleGuard(address)"), lambda a: f"{a} guards what modules do"),
        _Told(of("ChangedFallbackHandler(address)"), lambda a: f"{a} answers other calls"),
    )


def _text(raw: bytes) -> str:
    return raw.rstrip(b"\0").decode("ascii", "replace") or "nothing"


def _assigned(member: str, role_keys: list[bytes], given: list[bool]) -> str:
    parts = [
        f"{'has' if has else 'has not'} the role {_text(role)}"
        for role, has in zip(role_keys, given, strict=False)
    ]
    return f"{member} {' and '.join(parts)}"


_BY_TOPIC: Final[Mapping[str, _Told]] = {told.signature.topic: told for told in _changes()}
TOPICS: Final = (CONSUME_ALLOWANCE.topic, SET_ALLOWANCE.topic, *_BY_TOPIC)
"""The first topics to ask for, at the addresses of the Safe and its roles."""


def treasury_event(log: Mapping[str, Any]) -> Consumed | AllowanceSet | Changed | None:
    """Decode a log of the Safe or its roles; None for another event.

    ChainUnavailable for one that is not what the contracts write.
    """
    topic, *indexed = log["topics"]
    try:
        data = b"".join(bytes.fromhex(text[2:]) for text in (*indexed, log["data"]))
        if topic == CONSUME_ALLOWANCE.topic:
            return Consumed(*CONSUME_ALLOWANCE.decoded(data))
        if topic == SET_ALLOWANCE.topic:
            return _set(*SET_ALLOWANCE.decoded(data))
        told = _BY_TOPIC.get(topic)
        return None if told is None else _changed(told, data)
    except (DecodingError, ValueError) as fault:
        raise ChainUnavailable(f"the endpoint told an event that can't be: {fault}") from None


def _set(
    allowance_key: bytes,
    balance: int,
    max_refill: int,
    refill: int,
    period: int,
    timestamp: int,
) -> AllowanceSet:
    allowance = Allowance(
        refill=refill,
        max_refill=max_refill,
        period=period,
        balance=balance,
        timestamp=timestamp,
    )
    return AllowanceSet(allowance_key, allowance)


def _changed(told: _Told, data: bytes) -> Changed:
    values = tuple(
        checksummed(value) if _is_address(value) else value
        for value in told.signature.decoded(data)
    )
    return Changed(told.signature.name, told.sentence(*values), values)


def _is_address(value: Any) -> bool:
    return isinstance(value, str) and value != ZERO_ADDRESS
