"""Check an approver's word as its row of the audit log tells it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from coordinator.domain.audit import AuditRow
from coordinator.domain.policy.credentials import CredentialKind
from coordinator.domain.policy.policy import Policy
from coordinator.domain.signatures.faults import BadSignature
from coordinator.domain.signatures.safe_signatures import SafeState
from coordinator.domain.statements.signed import Signed, check_signed, signed_for
from coordinator.domain.statements.statement import Statement
from coordinator.domain.typed_data import Trust


@dataclass(frozen=True, slots=True)
class RecordedSafe:
    """A Safe's signature that counts by its record: whether the record is true the chain tells."""

    row: str
    digest: bytes
    signature: bytes
    state: SafeState


@dataclass(slots=True)
class Words:
    """The policy in force at the row that is replayed, and what was signed so far under it."""

    trust: Trust | None
    policy: Policy | None = None
    #: Signatures that count.
    counted: int = 0
    safes: list[RecordedSafe] = field(default_factory=list)

    @property
    def in_force(self) -> Policy:
        """The policy that decides this row; ValueError before there is one."""
        if self.policy is None:
            raise ValueError("no policy was in force")
        return self.policy

    def signs(self) -> bool:
        """Whether anybody decides by signing only."""
        approvals = self.in_force.approvals
        return any(map(approvals.has_to_sign, approvals.approvers))

    def check(
        self, row: AuditRow, name: str, expected: Callable[[Policy], Statement]
    ) -> Iterator[str]:
        """Say why the word of ``name`` does not count; nothing when it does."""
        policy, body = self.in_force, row.body
        approver = policy.approvals.approvers.get(name)
        if approver is None:
            yield f"{name} was no approver of the policy in force"
        elif "signed" not in body:
            if policy.approvals.has_to_sign(name):
                yield f"{name} had to sign it and did not"
        else:
            try:
                self._count(row, name, expected(policy))
            except BadSignature as fault:
                yield f"{name}'s signature does not count: {fault.code}: {fault}"
            except ValueError as fault:
                yield f"{name}'s signature does not count: malformed: {fault}"

    def _count(self, row: AuditRow, name: str, expected: Statement) -> None:
        if self.trust is None:
            raise ValueError("it is not known for which treasury it was signed")
        signed = Signed.from_dict(row.body["signed"])
        approver = self.in_force.approvals.approvers[name]
        check_signed(signed, expected, approver, name=name, trust=self.trust)
        if row.at >= signed.statement.expires_at:
            raise ValueError("it was given after it had expired")
        if signed.credential.kind is CredentialKind.SAFE:
            assert signed.safe is not None
            raw = bytes.fromhex(signed.signature.removeprefix("0x"))
            digest = signed.digest(signed_for(signed, self.trust))
            self.safes.append(RecordedSafe(told(row), digest, raw, signed.safe))
        elif signed.safe is not None:
            raise ValueError("the owners of a Safe stand beside an account's signature")
        self.counted += 1


def told(row: AuditRow) -> str:
    """Name the row in a fault."""
    return f"row {row.seq} ({row.event} {row.subject})"
