"""Calls of a Safe in words, read from their data alone: what owners are about to sign.

Nothing that a file says of a call is believed. Where a call is not known here, that is said.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from eth_abi.exceptions import DecodingError

from coordinator.chain.safe.addresses import MODULE_PROXY_FACTORY, MULTI_SEND, ROLES, UNWRAPPER
from coordinator.chain.safe.conditions import Operator, ParamType
from coordinator.chain.safe.configuration import (
    APPROVE,
    CREATE,
    DISPUTE_COUNT,
    LINK,
    TRANSFER,
    TRANSITION,
    Places,
    name,
)
from coordinator.chain.safe.multisend import InnerCall
from coordinator.chain.safe.roles import (
    ASSIGN_ROLES,
    DEPLOY_MODULE,
    REVOKE_FUNCTION,
    REVOKE_TARGET,
    SCOPE_FUNCTION,
    SCOPE_TARGET,
    SET_ALLOWANCE,
    SET_UNWRAPPER,
    deploy_module,
    module_address,
)
from coordinator.chain.safe.safe_transactions import (
    ADD_OWNER,
    CHANGE_THRESHOLD,
    DISABLE_MODULE,
    ENABLE_MODULE,
    REMOVE_OWNER,
)
from coordinator.chain.safe.signatures import Signature
from coordinator.domain.address import checksummed
from coordinator.domain.times import rfc3339

_STATES: Final = {5: "settled", 6: "disputed", 7: "cancelled"}
_PARAMETERS: Final = {
    APPROVE: ("the account that may take", "the amount"),
    TRANSFER: ("the recipient", "the amount"),
    CREATE: ("the provider", "the payer", "the amount", "the deadline"),
    LINK: ("the escrow", "the vault"),
    TRANSITION: ("the escrow", "the state"),
}
_ROOT: Final = 0
# A selector takes four bytes.
_SELECTOR: Final = 4
_ADDRESS_MIN: Final = 1 << 64
_ADDRESS_BITS: Final = 160

Names = Mapping[str, str]
"""The names of addresses, by checksummed address."""


def names_of(places: Places, member: str, providers: Mapping[str, str]) -> dict[str, str]:
    """Return what the treasury's addresses are called; ``providers`` are addresses by name."""
    named = {address: f"{given} ({address})" for given, address in providers.items()}
    return named | {
        places.safe: f"the Safe {places.safe}",
        places.roles: f"its roles {places.roles}",
        places.kernel: f"the kernel {places.kernel}",
        places.vault: f"the vault {places.vault}",
        places.usdc: f"USDC {places.usdc}",
        member: f"the worker's key {member}",
        MULTI_SEND.address: f"MultiSendCallOnly {MULTI_SEND.address}",
    }


def in_words(call: InnerCall, places: Places, names: Names) -> str:
    """Return what the call does, in words; one that is not known is told as such."""
    known = _readers(places).get((call.to, call.data[:_SELECTOR]))
    to = names.get(call.to, call.to)
    if known is not None:
        signature, read = known
        try:
            values = signature.decoded(call.data[_SELECTOR:])
            # Bytes that decoding passes over would be signed without having been said.
            if signature.call(*values) == call.data:
                return read(names, *map(_own_spelling, values))
        except (DecodingError, ValueError, OverflowError):
            pass
    if not call.data:
        return f"NOT KNOWN HERE: a call of {to} without data"
    return f"NOT KNOWN HERE: a call of {to} with 0x{call.data[:64].hex()}… ({len(call.data)} bytes)"


def _readers(places: Places) -> dict[tuple[str, bytes], tuple[Signature, Callable[..., str]]]:
    roles = places.roles
    found: dict[tuple[str, bytes], tuple[Signature, Callable[..., str]]] = {}
    known: tuple[tuple[str, Signature, Callable[..., str]], ...] = (
        (places.usdc, APPROVE, _approved),
        (places.usdc, TRANSFER, _transferred),
        (places.safe, ENABLE_MODULE, _enabled),
        (places.safe, DISABLE_MODULE, _disabled),
        (places.safe, ADD_OWNER, _owner_added),
        (places.safe, REMOVE_OWNER, _owner_removed),
        (places.safe, CHANGE_THRESHOLD, _threshold),
        (roles, DISABLE_MODULE, _member_out),
        (roles, SET_ALLOWANCE, _allowance),
        (roles, ASSIGN_ROLES, _assigned),
        (roles, SCOPE_TARGET, _target),
        (roles, REVOKE_TARGET, _target_revoked),
        (roles, SCOPE_FUNCTION, _scoped),
        (roles, REVOKE_FUNCTION, _function_revoked),
        (roles, SET_UNWRAPPER, _unwrapper),
    )
    for to, signature, read in known:
        found[to, signature.selector] = (signature, read)

    def deployed(names: Names, mastercopy: str, initializer: bytes, salt_nonce: int) -> str:
        """Only the Safe's own Roles is called that."""
        made = module_address(places.safe, salt_nonce)
        call = deploy_module(places.safe, salt_nonce)
        if DEPLOY_MODULE.call(mastercopy, initializer, salt_nonce) != call:
            raise ValueError(f"another module than Roles {ROLES.address} of the Safe")
        return f"deploy the Safe's own roles, {names.get(made, made)}"

    factory = MODULE_PROXY_FACTORY.address
    found[factory, DEPLOY_MODULE.selector] = (DEPLOY_MODULE, deployed)
    return found


def _own_spelling(value: Any) -> Any:
    return checksummed(value) if isinstance(value, str) else value


def _named(names: Names, address: str) -> str:
    return names.get(address, address)


def _approved(names: Names, spender: str, amount: int) -> str:
    if not amount:
        return f"let {_named(names, spender)} take nothing any more: an approval that stands ends"
    return f"let {_named(names, spender)} take {_usdc(amount)} of the Safe's"


def _transferred(names: Names, to: str, amount: int) -> str:
    return f"send {_usdc(amount)} to {_named(names, to)}"


def _enabled(names: Names, module: str) -> str:
    return f"let {_named(names, module)} act in the Safe's name without its owners"


def _disabled(names: Names, _before: str, module: str) -> str:
    return f"let {_named(names, module)} act in the Safe's name no longer"


def _owner_added(names: Names, owner: str, threshold: int) -> str:
    return f"let {_named(names, owner)} own the Safe; {_together(threshold)}"


def _owner_removed(names: Names, _before: str, owner: str, threshold: int) -> str:
    return f"let {_named(names, owner)} own the Safe no longer; {_together(threshold)}"


def _threshold(_names: Names, threshold: int) -> str:
    return f"from then on {_together(threshold)}"


def _together(threshold: int) -> str:
    return "ONE owner signs alone" if threshold == 1 else f"{threshold} owners sign together"


def _member_out(names: Names, _before: str, member: str) -> str:
    return f"let {_named(names, member)} call the roles no longer"


def _allowance(
    _names: Names, key: bytes, balance: int, most: int, refill: int, period: int, since: int
) -> str:
    shown: Callable[[int], str] = str if key == DISPUTE_COUNT else _usdc
    what = f"set the allowance {name(key)} to {shown(balance)}"
    if not most:
        return f"{what}, WITHOUT A LIMIT to what comes back"
    if period and refill:
        what += f"; {shown(refill)} come back every {period // 60} minutes, up to {shown(most)}"
    else:
        what += ", and nothing comes back"
    return f"{what}, counted from {rfc3339(since)}" if since else what


def _assigned(names: Names, member: str, roles: Sequence[bytes], given: Sequence[bool]) -> str:
    if len(roles) != len(given) or not roles:
        raise ValueError("the call does nothing, or can't work")
    who = _named(names, member)
    parts = [
        f"{'give' if has else 'take'} the role {name(role)} {'to' if has else 'from'} {who}"
        for role, has in zip(roles, given, strict=True)
    ]
    return " and ".join(parts)


def _target(names: Names, role: bytes, target: str) -> str:
    return f"let the role {name(role)} call {_named(names, target)}, within what is said of it"


def _target_revoked(names: Names, role: bytes, target: str) -> str:
    return f"let the role {name(role)} call {_named(names, target)} no longer"


def _function_revoked(names: Names, role: bytes, target: str, selector: bytes) -> str:
    what = _function(selector)
    return f"let the role {name(role)} call {what} of {_named(names, target)} no longer"


def _unwrapper(names: Names, to: str, _selector: bytes, unwrapper: str) -> str:
    by = "the audited unwrapper" if unwrapper == UNWRAPPER.address else "ANOTHER unwrapper"
    return f"judge each call through {_named(names, to)} by itself, with {by} {unwrapper}"


def _function(selector: bytes) -> str:
    return next((f.name for f in _PARAMETERS if f.selector == selector), f"0x{selector.hex()}")


def _scoped(
    names: Names,
    role: bytes,
    target: str,
    selector: bytes,
    rows: Sequence[tuple[int, int, int, bytes]],
    options: int,
) -> str:
    if options or not rows:
        raise ValueError("a function that may take ETH, run other code, or has no conditions")
    if rows[_ROOT][1:3] != (ParamType.CALLDATA, Operator.MATCHES) or not all(
        kind in (ParamType.NONE, ParamType.STATIC) for _, kind, _, _ in rows[1:]
    ):
        raise ValueError("conditions that are not laid out by parameters of one word")
    parameters = next((p for f, p in _PARAMETERS.items() if f.selector == selector), ())
    conditions = []
    for place, row in enumerate(_children(rows, _ROOT)):
        parameter = parameters[place] if place < len(parameters) else f"parameter {place + 1}"
        if (text := _condition(names, rows, row, parameter)) is not None:
            conditions.append(text)
    what = f"let the role {name(role)} call {_function(selector)} of {_named(names, target)}"
    return f"{what} where {'; '.join(conditions)}" if conditions else f"{what} WITH ANYTHING"


def _children(rows: Sequence[tuple[int, int, int, bytes]], parent: int) -> list[int]:
    return [n for n, row in enumerate(rows) if row[0] == parent and n != _ROOT]


def _condition(
    names: Names,
    rows: Sequence[tuple[int, int, int, bytes]],
    at: int,
    parameter: str,
) -> str | None:
    _, _, operator, value = rows[at]
    match operator:
        case Operator.PASS:
            return None
        case Operator.AND | Operator.OR:
            joint = " or " if operator == Operator.OR else " and "
            parts = [_condition(names, rows, child, parameter) for child in _children(rows, at)]
            texts = [part.removeprefix(f"{parameter} is ") for part in parts if part is not None]
            if operator == Operator.OR and len(texts) != len(parts):
                return None
            return f"{parameter} is {joint.join(texts)}"
        case Operator.EQUAL_TO_AVATAR:
            return f"{parameter} is the Safe"
        case Operator.EQUAL_TO:
            return f"{parameter} is {_value(names, parameter, int.from_bytes(value, 'big'))}"
        case Operator.LESS_THAN:
            return f"{parameter} is {_below(parameter, int.from_bytes(value, 'big'))}"
        case Operator.WITHIN_ALLOWANCE:
            return f"{parameter} is within the allowance {name(value)}"
        case Operator.CALL_WITHIN_ALLOWANCE:
            return f"the allowance {name(value)} leaves a call"
    raise ValueError(f"a condition of the kind {operator} is not known")


def _value(names: Names, parameter: str, value: int) -> str:
    if parameter == "the state":
        return _STATES.get(value, f"number {value}")
    if _ADDRESS_MIN < value < 1 << _ADDRESS_BITS:
        return _named(names, checksummed(f"0x{value:040x}"))
    return hex(value)


def _below(parameter: str, value: int) -> str:
    if parameter == "the amount":
        return f"at most {_usdc(value - 1)}"
    if parameter == "the deadline" and value < 1 << 34:
        return f"before {datetime.fromtimestamp(value, UTC):%Y-%m-%d %H:%M:%S} UTC"
    return f"below {value}"


def _usdc(units: int) -> str:
    whole, part = divmod(units, 10**6)
    cents = f"{part:06d}".rstrip("0").ljust(2, "0")
    return f"{whole}.{cents} USDC"
