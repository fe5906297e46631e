"""The approvers that a worker's own settings pin: they sign the first policy it believes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from coordinator.domain.policy.credentials import Credential
from coordinator.domain.signatures.faults import BadSignature
from coordinator.domain.statements.signed import Signed, check_signed_by
from coordinator.domain.statements.statement import Statement
from coordinator.domain.typed_data import Trust


@dataclass(frozen=True, slots=True)
class Pins:
    """Credentials of which ``required`` have to sign."""

    credentials: tuple[Credential, ...]
    required: int

    @classmethod
    def parse(cls, text: str, required: int | None) -> Pins:
        """Return the pins of ``address:0x…,address:0x…``; ValueError with one sentence.

        Without ``required`` every one of them has to sign.
        """
        found = tuple(Credential.parse(part.strip()) for part in text.split(",") if part.strip())
        if len({one.address for one in found}) != len(found) or not found:
            raise ValueError("a worker pins at least one credential, and each once")
        most = len(found)
        if required is not None and not 1 <= required <= most:
            raise ValueError(f"of {most} pinned credentials 1 to {most} can be required")
        return cls(found, required or most)

    def __str__(self) -> str:
        return f"{self.required} of {', '.join(sorted(map(str, self.credentials)))}"

    def missing(self, expected: Statement, given: Iterable[Signed], trust: Trust) -> str | None:
        """Say how many of the pinned credentials have not signed; None when enough have.

        Under which rules they signed is not asked: nothing was believed before.
        """
        by = set[Credential]()
        for signed in given:
            if signed.credential not in self.credentials:
                continue
            wanted = replace(expected, rules=signed.statement.rules)
            try:
                check_signed_by(signed, wanted, trust)
            except BadSignature:
                continue
            by.add(signed.credential)
        if len(by) >= self.required:
            return None
        return f"{len(by)} of {self.required} credentials that this worker pins have signed it"
