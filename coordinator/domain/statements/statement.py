"""Statements: what an approver signs, as an EIP-712 message that says everything it allows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, Final

from coordinator.domain.address import ZERO_ADDRESS
from coordinator.domain.times import rfc3339
from coordinator.domain.typed_data import Trust, TypedData
from coordinator.domain.usdc import Usdc

_NAME: Final = "ApproverStatement"
_FIELDS: Final = (
    ("treasury", "address"),
    ("id", "string"),
    ("action", "string"),
    ("decision", "string"),
    ("agent", "string"),
    ("account", "address"),
    ("amount", "uint256"),
    ("service", "string"),
    ("terms", "string"),
    ("expiresAt", "uint256"),
    ("reason", "string"),
    ("rules", "bytes32"),
)


# Where a name of the message is not the field's.
_STORED: Final[Mapping[Any, Any]] = {"expiresAt": "expires_at"}


class Action(StrEnum):
    """The actions that take approvers' signatures."""

    PURCHASE = "purchase"
    WITHDRAW = "withdraw"
    SETTLE = "settle"
    UNPAUSE = "unpause"
    DISPUTE = "dispute"
    INCREASE = "increase"
    POLICY = "policy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One decision about one thing.

    ``account`` is paid ``amount`` (base units); the zero address where nobody is. ``terms`` say in
    words what else is agreed. ``rules`` is the hash, in hex, of what decides it: change that, and
    the signature counts no more. ``expires_at``: unix seconds, that second excluded.
    """

    id: str
    action: Action
    decision: str
    expires_at: int
    rules: str
    agent: str = ""
    account: str = ZERO_ADDRESS
    amount: int = 0
    service: str = ""
    terms: str = ""
    reason: str = ""

    def message(self, trust: Trust) -> TypedData:
        """Return what is signed: for this treasury, on this chain, under this kernel."""
        values = (
            trust.treasury,
            self.id,
            self.action.value,
            self.decision,
            self.agent,
            self.account,
            self.amount,
            self.service,
            self.terms,
            self.expires_at,
            self.reason,
            bytes.fromhex(self.rules),
        )
        return TypedData(trust, _NAME, _FIELDS, values)

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON, as it is stored beside a signature."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Statement:
        """Return the statement of its JSON; ValueError with one sentence when it is none."""
        names = {field.name for field in fields(cls)}
        try:
            if set(stored) != names:
                raise ValueError
            made = cls(**{**stored, "action": Action(stored["action"])})
            made.as_words()
            texts = ("id", "decision", "rules", "agent", "account", "service", "terms", "reason")
            if not all(isinstance(getattr(made, name), str) for name in texts):
                raise ValueError
            if len(bytes.fromhex(made.rules)) != 32 or not 0 <= made.amount < 2**63:
                raise ValueError
        except (TypeError, ValueError, OverflowError, AttributeError):
            raise ValueError("the statement is not one that this program makes") from None
        return made

    @classmethod
    def from_document(cls, document: Any, trust: Trust) -> Statement:
        """Return the statement of a file: the typed data that was signed, or the statement's JSON.

        ValueError with one sentence when it is neither, or is for another treasury or chain.
        """
        if isinstance(document, Mapping) and "typed_data" in document:
            document = document["typed_data"]
        if not isinstance(document, Mapping) or "message" not in document:
            return cls.from_dict(document)
        message = document["message"]
        if not isinstance(message, Mapping):
            return cls.from_dict({})
        stored: dict[str, Any] = {_STORED.get(k, k): value for k, value in message.items()}
        stored.pop("treasury", None)
        made = cls.from_dict({**stored, "rules": str(stored.get("rules", "")).removeprefix("0x")})
        if made.message(trust).document() != document:
            raise ValueError("the statement is for another treasury, chain or contract than this")
        return made

    def differences(self, other: Statement) -> Iterator[str]:
        """Yield what this statement says and ``other`` does not, one sentence part each."""
        for field in fields(self):
            mine, theirs = getattr(self, field.name), getattr(other, field.name)
            if mine != theirs:
                yield _difference(field.name, mine, theirs)

    def as_words(self) -> list[str]:
        """Return what is signed in plain words, a line each."""
        verb = "Approve" if self.decision == "approved" else "Reject"
        lines = [f"{verb} {self.action} {self.id}"]
        if self.agent:
            lines.append(f"asked by {self.agent}")
        if self.amount:
            to = f" to {self.account}" if self.account != ZERO_ADDRESS else ""
            lines.append(f"{Usdc.from_base_units(self.amount)} USDC{to}")
        if self.service:
            lines.append(f"for the service {self.service}")
        if self.terms:
            lines.append(self.terms)
        if self.reason:
            lines.append(f"because: {self.reason}")
        if self.expires_at:
            lines.append(f"valid until {rfc3339(self.expires_at)}")
        return lines


def _difference(name: str, mine: Any, theirs: Any) -> str:
    if name == "rules":
        return "the policy's rules on it have changed since: its payee, quorum or approvers"
    if name == "expires_at":
        return f"it was valid until {rfc3339(mine)}, and now it is {rfc3339(theirs)}"
    return f"its {name} is {mine!r}, not {theirs!r}"
