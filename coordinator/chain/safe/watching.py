"""Follow what is done to a Safe: uses of its roles, changes of its limits, approvals left."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

from eth_abi.exceptions import DecodingError

from coordinator.chain.abi import token_abi
from coordinator.chain.evm.logs import Log, account_topic, event_of
from coordinator.chain.safe.addresses import FALLBACK_HANDLER, UNWRAPPER
from coordinator.chain.safe.configuration import DISPUTE_COUNT, name
from coordinator.chain.safe.events import (
    TOPICS,
    AllowanceSet,
    Changed,
    Consumed,
    treasury_event,
)
from coordinator.chain.safe.signatures import Signature
from coordinator.chain.safe.storage import usdc
from coordinator.domain.address import ZERO_ADDRESS
from coordinator.domain.chain.events import ChainEvent, EventKind
from coordinator.domain.errors import ChainUnavailable

#: The Safe tells which module acted for it.
ACTED: Final = tuple(
    Signature(f"ExecutionFromModule{end}(address)") for end in ("Success", "Failure")
)
_APPROVAL: Final = Signature("Approval(address,address,uint256)")
_ACTED_TOPICS: Final = frozenset(signature.topic for signature in ACTED)


@dataclass(frozen=True, slots=True)
class SafeEvents:
    """The events of one Safe, whose ``signer`` is to be the only one that acts by its roles."""

    safe: str
    roles: str
    usdc: str
    vault: str
    kernel: str
    signer: str

    @property
    def addresses(self) -> Sequence[str]:
        return [self.safe, self.roles]

    @property
    def topics(self) -> Sequence[str]:
        return [*TOPICS, *_ACTED_TOPICS]

    def events(self, logs: Sequence[Log]) -> Iterator[ChainEvent]:
        own = [log for log in logs if log["address"].lower() in self._own]
        told = [(log, treasury_event(log)) for log in own]
        for _, group in groupby(told, lambda pair: pair[0]["transactionHash"]):
            yield from self._use([*group])
        for log, found in told:
            if isinstance(found, AllowanceSet):
                yield self._change(log, "SetAllowance", _set(found))
            elif isinstance(found, Changed):
                foreign = self._is_foreign(found, log["address"])
                yield self._change(log, found.event, found.sentence, foreign=foreign)
        yield from self._approvals_left(logs)

    @property
    def _own(self) -> tuple[str, str]:
        return self.safe.lower(), self.roles.lower()

    def _use(self, told: Sequence[tuple[Log, Any]]) -> Iterator[ChainEvent]:
        """Yield one event for each transaction in which a module acted, or an allowance was used.

        A role that settles or cancels uses no allowance, and failing uses none either.
        """
        acts = [log for log, _ in told if log["topics"][0] in _ACTED_TOPICS]
        used = [(log, found) for log, found in told if isinstance(found, Consumed)]
        places = [*acts, *(log for log, _ in used)]
        if not places:
            return
        own = account_topic(self.roles)
        others = sorted({log["topics"][1] for log in acts} - {own})
        who = " and ".join("0x" + topic[-40:] for topic in others) or "a role"
        taken = [_taken(found) for _, found in used if found.amount]
        said = f"{who} acted for the Safe" + (f", and took {' and '.join(taken)}" if taken else "")
        first = min(places, key=lambda log: log["place"])
        yield event_of(
            EventKind.ROLE_USED, first, name="role_used", said=said, foreign=bool(others)
        )

    def _change(self, log: Log, event: str, said: str, *, foreign: bool = False) -> ChainEvent:
        return event_of(EventKind.TREASURY_CHANGED, log, name=event, said=said, foreign=foreign)

    def _approvals_left(self, logs: Sequence[Log]) -> Iterator[ChainEvent]:
        """Yield the approvals of the Safe of which the block in which they were made leaves some.

        Transfers tell what was pulled: the token has no event for what is left of an approval.
        """
        safe, vault = account_topic(self.safe), account_topic(self.vault)
        left: dict[tuple[str, str], tuple[Log, int]] = {}
        for log in logs:
            if log["address"].lower() != self.usdc.lower() or log["topics"][1] != safe:
                continue
            place = log["blockHash"], log["topics"][2]
            if log["topics"][0] == _APPROVAL.topic:
                left[place] = log, _amount(log)
            elif log["topics"][0] == token_abi().topic("Transfer") and log["topics"][2] == vault:
                approval, amount = left.get(place, (log, 0))
                left[place] = approval, max(amount - _amount(log), 0)
        for (_, spender), (log, amount) in left.items():
            if amount:
                said = f"0x{spender[-40:]} may still take {usdc(amount)} from the Safe"
                kind = EventKind.APPROVAL_LEFT
                yield event_of(kind, log, name="approval_left", said=said, foreign=True)

    def _is_foreign(self, change: Changed, contract: str) -> bool:
        """Whether it lets in somebody, or something, that the treasury's limits never name."""
        values, of_safe = change.values, contract.lower() == self.safe.lower()
        rule = _RULES.get(change.event)
        if change.event == "EnabledModule":
            # The accounts that may use roles are modules of the roles.
            return not _is(values[0], self.roles if of_safe else self.signer)
        return rule is not None and rule(self, *values)


def _is(one: str, *others: str) -> bool:
    return one.lower() in {other.lower() for other in others}


def _given_to_another(of: SafeEvents, member: str, _: Any, given: Sequence[bool]) -> bool:
    return any(given) and not _is(member, of.signer)


def _another_target(of: SafeEvents, _: Any, target: str, *__: Any) -> bool:
    return not _is(target, of.usdc, of.kernel)


def _without_conditions(*_: Any) -> bool:
    return True


def _another_owner(of: SafeEvents, _: str, new: str) -> bool:
    return not _is(new, of.safe)


_RULES: Final[Mapping[str, Callable[..., bool]]] = {
    "AssignRoles": _given_to_another,
    "SetDefaultRole": lambda of, member, _: not _is(member, of.signer),
    "ScopeTarget": _another_target,
    "ScopeFunction": _another_target,
    "AllowTarget": _without_conditions,
    "AllowFunction": _without_conditions,
    "SetUnwrapAdapter": lambda of, _, __, by: not _is(by, UNWRAPPER.address, ZERO_ADDRESS),
    "OwnershipTransferred": _another_owner,
    "AvatarSet": _another_owner,
    "TargetSet": _another_owner,
    "ChangedGuard": lambda of, guard: not _is(guard, ZERO_ADDRESS),
    "ChangedModuleGuard": lambda of, guard: not _is(guard, ZERO_ADDRESS),
    "ChangedFallbackHandler": lambda of, by: not _is(by, FALLBACK_HANDLER.address, ZERO_ADDRESS),
}


def _amount(log: Log) -> int:
    try:
        (value,) = _VALUE.decoded(bytes.fromhex(log["data"][2:]))
    except (DecodingError, ValueError) as fault:
        raise ChainUnavailable(f"the endpoint told an event that can't be: {fault}") from None
    return int(value)


_VALUE: Final = Signature("of(uint256)")


def _taken(used: Consumed) -> str:
    return f"{_shown(used.allowance_key, used.amount)} of {name(used.allowance_key)}"


def _set(change: AllowanceSet) -> str:
    of, key = change.allowance, change.allowance_key
    refill = ""
    if of.period and of.refill:
        more, most = _shown(key, of.refill), _shown(key, of.max_refill)
        refill = f", {more} more every {of.period} seconds up to {most}"
    return f"the allowance {name(key)} is {_shown(key, of.balance)}{refill}"


def _shown(key: bytes, amount: int) -> str:
    return str(amount) if key == DISPUTE_COUNT else usdc(amount)
