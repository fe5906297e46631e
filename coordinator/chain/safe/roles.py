"""Calls of the Zodiac Roles Modifier 2.1.0."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from coordinator.chain.safe.addresses import MODULE_PROXY_FACTORY, MULTI_SEND, ROLES, UNWRAPPER
from coordinator.chain.safe.allowances import Allowance
from coordinator.chain.safe.conditions import Condition, rows
from coordinator.chain.safe.create2 import address_bytes, create2_address
from coordinator.chain.safe.multisend import MULTI_SEND_FUNCTION
from coordinator.chain.safe.signatures import Signature
from coordinator.domain.address import keccak256

EXECUTE: Final = Signature("execTransactionWithRole(address,uint256,bytes,uint8,bytes32,bool)")
EXECUTE_AND_TELL: Final = Signature(
    "execTransactionWithRoleReturnData(address,uint256,bytes,uint8,bytes32,bool)"
)
_OUTCOME: Final = Signature("of(bool,bytes)")
SET_UP: Final = Signature("setUp(bytes)")
_SET_UP_ARGUMENTS: Final = Signature("of(address,address,address)")
SET_ALLOWANCE: Final = Signature("setAllowance(bytes32,uint128,uint128,uint128,uint64,uint64)")
ALLOWANCES: Final = Signature("allowances(bytes32)")
_STORED_ALLOWANCE: Final = Signature("of(uint128,uint128,uint64,uint128,uint64)")
SCOPE_TARGET: Final = Signature("scopeTarget(bytes32,address)")
REVOKE_TARGET: Final = Signature("revokeTarget(bytes32,address)")
SCOPE_FUNCTION: Final = Signature(
    "scopeFunction(bytes32,address,bytes4,(uint8,uint8,uint8,bytes)[],uint8)"
)
REVOKE_FUNCTION: Final = Signature("revokeFunction(bytes32,address,bytes4)")
ASSIGN_ROLES: Final = Signature("assignRoles(address,bytes32[],bool[])")
SET_UNWRAPPER: Final = Signature("setTransactionUnwrapper(address,bytes4,address)")
DEPLOY_MODULE: Final = Signature("deployModule(address,bytes,uint256)")

# EIP-1167 proxies, as the factory makes them.
_PROXY_CREATION: Final = bytes.fromhex("602d8060093d393df3")
_PROXY_BEGIN: Final = bytes.fromhex("363d3d373d3d3d363d73")
_PROXY_END: Final = bytes.fromhex("5af43d82803e903d91602b57fd5bf3")
# A function's options: neither ETH nor a delegatecall.
_NO_OPTIONS: Final = 0


def key(name: str) -> bytes:
    """Return the key of a role or an allowance: its name in ASCII, as the Roles app shows it."""
    raw = name.encode("ascii")
    if not 0 < len(raw) <= 32:
        raise ValueError(f"{name!r} does not fit a key: one to 32 ASCII characters do")
    return raw.ljust(32, b"\0")


def execute(to: str, data: bytes, *, operation: int, role: bytes, tell: bool = False) -> bytes:
    """Encode what the role's key sends: a call in the Safe's name that reverts where it fails.

    With ``tell`` it is for reading only: the answer is whether the inner call worked and what it
    returned, or its reason.
    """
    if tell:
        return EXECUTE_AND_TELL.call(to, 0, data, operation, role, False)
    return EXECUTE.call(to, 0, data, operation, role, True)


def outcome(answer: bytes) -> tuple[bool, bytes]:
    """Decode what ``tell`` asked: whether the inner call worked, and what it said."""
    worked, said = _OUTCOME.decoded(answer)
    return worked, said


def set_allowance(allowance_key: bytes, allowance: Allowance) -> bytes:
    """Encode the owners' setting of an allowance, which replaces what is left of it."""
    return SET_ALLOWANCE.call(
        allowance_key,
        allowance.balance,
        allowance.max_refill,
        allowance.refill,
        allowance.period,
        allowance.timestamp,
    )


def stored_allowance(answer: bytes) -> Allowance:
    """Decode the answer to ``ALLOWANCES``: what was left when it was last used or set."""
    refill, max_refill, period, balance, timestamp = _STORED_ALLOWANCE.decoded(answer)
    return Allowance(
        refill=refill,
        max_refill=max_refill,
        period=period,
        balance=balance,
        timestamp=timestamp,
    )


def scope_target(role: bytes, target: str) -> bytes:
    """Encode that the role may call the target, but only functions that are scoped as well."""
    return SCOPE_TARGET.call(role, target)


def revoke_target(role: bytes, target: str) -> bytes:
    return REVOKE_TARGET.call(role, target)


def scope_function(role: bytes, target: str, selector: bytes, condition: Condition) -> bytes:
    """Encode that the role may call the function where its parameters meet the condition."""
    laid = [row.as_tuple() for row in rows(condition)]
    return SCOPE_FUNCTION.call(role, target, selector, laid, _NO_OPTIONS)


def revoke_function(role: bytes, target: str, selector: bytes) -> bytes:
    return REVOKE_FUNCTION.call(role, target, selector)


def assign_roles(member: str, roles: Sequence[bytes], *, member_of: bool = True) -> bytes:
    """Encode that the account has these roles, or has them no longer."""
    return ASSIGN_ROLES.call(member, [*roles], [member_of] * len(roles))


def set_unwrapper() -> bytes:
    """Encode that calls by MultiSendCallOnly are judged one by one."""
    return SET_UNWRAPPER.call(MULTI_SEND.address, MULTI_SEND_FUNCTION.selector, UNWRAPPER.address)


def deploy_module(safe: str, salt_nonce: int) -> bytes:
    """Encode the deployment of the Safe's own Roles, which nobody else can be first with."""
    return DEPLOY_MODULE.call(ROLES.address, _initializer(safe), salt_nonce)


def module_address(safe: str, salt_nonce: int) -> str:
    """Return where ``deploy_module`` deploys."""
    salt = keccak256(keccak256(_initializer(safe)) + salt_nonce.to_bytes(32, "big"))
    creation = _PROXY_CREATION + module_code()
    return create2_address(MODULE_PROXY_FACTORY.address, salt, creation)


def module_code() -> bytes:
    """Return the code of every deployed Roles: a proxy to the one that was audited."""
    return _PROXY_BEGIN + address_bytes(ROLES.address) + _PROXY_END


def _initializer(safe: str) -> bytes:
    owner, avatar, target = safe, safe, safe
    return SET_UP.call(_SET_UP_ARGUMENTS.arguments(owner, avatar, target))
