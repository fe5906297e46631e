"""The policy's table of approvals: who decides, with which credentials, and how many."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Annotated, Any, Final, Literal

from pydantic import (
    Field,
    PlainSerializer,
    PlainValidator,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
)

from coordinator.domain.policy.credentials import Credential
from coordinator.domain.policy.values import Amount, Name, Seconds, Table
from coordinator.domain.usdc import Usdc


def _credential(value: object) -> Credential:
    if isinstance(value, Credential):
        return value
    if not isinstance(value, str):
        raise ValueError("write the credential as text")
    return Credential.parse(value)


PolicyCredential = Annotated[Credential, PlainValidator(_credential), PlainSerializer(str)]
_CREDENTIALS_MAX: Final = 4


class Approver(Table):
    """An approver: a human, or an agent that may approve what others ask, up to an amount.

    Who has ``credentials`` decides by signing with one of them, and in no other way.
    """

    agent: bool = False
    up_to: Amount | None = None
    group: Name | None = None
    credentials: Annotated[list[PolicyCredential], Field(max_length=_CREDENTIALS_MAX)] = []

    @property
    def signs(self) -> bool:
        return bool(self.credentials)

    @model_serializer(mode="wrap")
    def _without_empty(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        plain: dict[str, Any] = handler(self)
        if not self.credentials:
            plain.pop("credentials", None)
        return plain


class Tier(Table):
    """Purchases above an amount need this many approvers, whatever the agent's threshold.

    ``from_each`` names groups: of each at least one has to approve.
    """

    above: Amount
    required: Annotated[int, Field(ge=1, le=20)]
    from_each: list[Name] = []

    @model_serializer(mode="wrap")
    def _without_empty(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        plain: dict[str, Any] = handler(self)
        if not self.from_each:
            plain.pop("from_each", None)
        return plain


class Quorum(Table):
    """The approvals that something takes: so many, and at least one from each of the groups."""

    required: int
    from_each: tuple[str, ...] = ()

    def met_by(self, approvers: Iterable[Approver]) -> bool:
        """Return whether these distinct approvers are enough."""
        said = list(approvers)
        groups = Counter(one.group for one in said)
        return len(said) >= self.required and all(groups[name] for name in self.from_each)


_BOND: Final = Usdc("100")
_WAITING_MAX: Final = 100


class Approvals(Table):
    """Approvals above the threshold: by whom, how many, and for how long a request waits."""

    required: Annotated[int, Field(ge=1, le=20)] = 1
    # "required": who has no credential decides nothing.
    signatures: Literal["required", "optional"] = "optional"
    from_each: list[Name] = []
    # Whoever proposed something is not one of those who approve it.
    four_eyes: bool = False
    # From the draft of a policy to its effect where it changes who is paid or who decides.
    change_delay: Seconds | None = None
    approvers: dict[Name, Approver] = {}
    expires_after: Seconds = 86400
    tiers: list[Tier] = []
    # One approver may contest a delivery: this is the most that it may cost.
    dispute_bond_limit: Amount = _BOND
    # Of one agent at once: more would only hide what people have to look at.
    waiting_max: Annotated[int, Field(ge=1, le=10_000)] = _WAITING_MAX

    @field_validator("approvers", mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        if not isinstance(value, list):
            return value
        if not all(isinstance(name, str) for name in value):
            raise ValueError("must be names")
        if any(value.count(name) > 1 for name in value):
            raise ValueError("names someone twice")
        return {name: Approver() for name in value}

    @model_serializer(mode="wrap")
    def _as_list(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        plain: dict[str, Any] = handler(self)
        if all(approver == Approver() for approver in self.approvers.values()):
            plain["approvers"] = list(self.approvers)
        if not self.tiers:
            plain.pop("tiers", None)
        for name in ("signatures", "from_each", "four_eyes"):
            if getattr(self, name) == Approvals.model_fields[name].default:
                plain.pop(name, None)
        if self.dispute_bond_limit == _BOND:
            plain.pop("dispute_bond_limit", None)
        if self.waiting_max == _WAITING_MAX:
            plain.pop("waiting_max", None)
        return plain

    @property
    def lowest_tier(self) -> Usdc | None:
        """Above this amount people are asked whatever an agent's threshold says."""
        return min((tier.above for tier in self.tiers), default=None)

    def required_for(self, amount: Usdc) -> int:
        """Return the approvals that an amount takes; a tier holds above its amount, not at it."""
        return self.quorum(amount).required

    def quorum(self, amount: Usdc | None = None) -> Quorum:
        """Return who has to approve an amount; None for what has none, such as an unpause."""
        tiers = [tier for tier in self.tiers if amount is not None and amount > tier.above]
        groups = [self.from_each, *(tier.from_each for tier in tiers)]
        return Quorum(
            required=max([self.required, *(tier.required for tier in tiers)]),
            from_each=tuple(dict.fromkeys(name for each in groups for name in each)),
        )

    def has_to_sign(self, name: str) -> bool:
        """Return whether an approver's word counts only where it is signed."""
        approver = self.approvers.get(name)
        return self.signatures == "required" or (approver is not None and approver.signs)
