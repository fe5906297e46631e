"""Refusals of a role: the contract's revert data as a value with a sentence."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

from coordinator.chain.safe.signatures import Signature


class Violation(IntEnum):
    """The condition that was not met; PermissionChecker.Status of Roles 2.1.0."""

    DELEGATE_CALL_NOT_ALLOWED = 1
    TARGET_ADDRESS_NOT_ALLOWED = 2
    FUNCTION_NOT_ALLOWED = 3
    SEND_NOT_ALLOWED = 4
    OR_VIOLATION = 5
    NOR_VIOLATION = 6
    PARAMETER_NOT_ALLOWED = 7
    PARAMETER_LESS_THAN_ALLOWED = 8
    PARAMETER_GREATER_THAN_ALLOWED = 9
    PARAMETER_NOT_A_MATCH = 10
    NOT_EVERY_ARRAY_ELEMENT_PASSES = 11
    NO_ARRAY_ELEMENT_PASSES = 12
    PARAMETER_NOT_SUBSET_OF_ALLOWED = 13
    BITMASK_OVERFLOW = 14
    BITMASK_NOT_ALLOWED = 15
    CUSTOM_CONDITION_VIOLATION = 16
    ALLOWANCE_EXCEEDED = 17
    CALL_ALLOWANCE_EXCEEDED = 18
    ETHER_ALLOWANCE_EXCEEDED = 19


_BROKEN: Final = {
    Violation.DELEGATE_CALL_NOT_ALLOWED: "the role may not run other code in the Safe's name",
    Violation.TARGET_ADDRESS_NOT_ALLOWED: "the role may not call this contract",
    Violation.FUNCTION_NOT_ALLOWED: "the role may not call this function",
    Violation.SEND_NOT_ALLOWED: "the role may not send ETH",
    Violation.OR_VIOLATION: "a parameter is none of those that the role may use",
    Violation.PARAMETER_NOT_ALLOWED: "a parameter is not the one that the role may use",
    Violation.PARAMETER_LESS_THAN_ALLOWED: "a number is below what the role may use",
    Violation.PARAMETER_GREATER_THAN_ALLOWED: "a number is above what the role may use",
    Violation.ALLOWANCE_EXCEEDED: "more than is left of an allowance",
    Violation.CALL_ALLOWANCE_EXCEEDED: "more calls than are left of an allowance",
}

_CONDITION_VIOLATION: Final = Signature("ConditionViolation(uint8,bytes32)")
_WITH_KEY: Final = (Violation.ALLOWANCE_EXCEEDED, Violation.CALL_ALLOWANCE_EXCEEDED)
_SELECTOR_BYTES: Final = 4

# Errors of Roles, its unwrapper and its owner's check that say all by their name.
_NAMED: Final = {
    Signature("NoMembership()"): "the key does not have this role",
    Signature("NotAuthorized(address)"): "the key has no role at all",
    Signature("ModuleTransactionFailed()"): "the role allowed the call, and the call failed",
    Signature("MalformedMultiEntrypoint()"): "the calls are not packed as MultiSend takes them",
    Signature("FunctionSignatureTooShort()"): "the call names no function",
    Signature("CalldataOutOfBounds()"): "the call has fewer bytes than its parameters need",
    Signature("HashAlreadyConsumed(bytes32)"): "the signed call was used before",
    Signature("OwnableUnauthorizedAccount(address)"): "only the Safe itself may change its roles",
    Signature("ArraysDifferentLength()"): "two lists have different lengths",
    Signature("NotBFS()"): "the conditions are not in their order",
    Signature("UnsuitableRootNode()"): "the conditions have no root that fits",
    Signature("UnsuitableParameterType(uint256)"): "a condition is of a type that does not fit",
    Signature("UnsuitableCompValue(uint256)"): "a condition has a value that does not fit",
    Signature("UnsuitableChildCount(uint256)"): "a condition has too many or too few below it",
    Signature("UnsuitableChildTypeTree(uint256)"): "the branches of a condition differ in shape",
}
_BY_SELECTOR: Final = {error.selector: (error, text) for error, text in _NAMED.items()}


@dataclass(frozen=True, slots=True)
class RoleRefusal:
    """``name`` is the contract's own; ``violation`` says which of the role's conditions failed.

    ``info`` is the key of the allowance that is used up, or the selector that is not allowed,
    and empty otherwise.
    """

    name: str
    sentence: str
    violation: Violation | None = None
    info: bytes = b""

    def __str__(self) -> str:
        return f"{self.sentence} ({self.name})"


def role_refusal(data: Any) -> RoleRefusal | None:
    """Decode revert data as a node tells it; None for what Roles does not say."""
    if isinstance(data, dict):
        data = data.get("data")
    if not isinstance(data, str) or not data.startswith("0x"):
        return None
    try:
        raw = bytes.fromhex(data[2:])
        if raw[:4] == _CONDITION_VIOLATION.selector:
            return _violated(raw[4:])
    except ValueError:
        return None
    if raw[:4] not in _BY_SELECTOR:
        return None
    error, sentence = _BY_SELECTOR[raw[:4]]
    return RoleRefusal(error.name, sentence)


def _violated(arguments: bytes) -> RoleRefusal | None:
    if len(arguments) != 64:
        return None
    status, info = int.from_bytes(arguments[:32], "big"), arguments[32:]
    try:
        violation = Violation(status)
    except ValueError:
        return None
    sentence = _BROKEN.get(violation, "a parameter is not one that the role may use")
    if violation in _WITH_KEY:
        sentence = f"{sentence}: {info.rstrip(bytes(1)).decode('ascii', 'replace')}"
        return RoleRefusal(_name(violation), sentence, violation, info)
    if violation is Violation.FUNCTION_NOT_ALLOWED:
        return RoleRefusal(_name(violation), sentence, violation, info[:_SELECTOR_BYTES])
    return RoleRefusal(_name(violation), sentence, violation)


def _name(violation: Violation) -> str:
    return "".join(part.capitalize() for part in violation.name.split("_"))
