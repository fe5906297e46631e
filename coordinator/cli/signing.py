"""Sign what an approver decides: with a key here, or with signatures made on another device."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from coordinator.cli.command import mode
from coordinator.domain.errors import InvalidRequest
from coordinator.domain.plain_text import decode_file

if TYPE_CHECKING:
    from coordinator.api.coordinator import Coordinator
    from coordinator.domain.policy.approvals import Approver
    from coordinator.domain.statements.signed import GivenSignature, SigningRequest

Signer = Annotated[
    str | None,
    typer.Option(help="Sign with this key: keystore:NAME; default: COORDINATOR_APPROVER_SIGNER."),
]
Signatures = Annotated[
    list[str] | None,
    typer.Option("--signature", help="A signature made elsewhere, 0x…; a Safe's: of each owner."),
]
StatementFile = Annotated[
    Path | None,
    typer.Option("--statement", help="The file that was signed elsewhere (approvals statement)."),
]
_SIGNER: Final = "COORDINATOR_APPROVER_SIGNER"
_PASSWORD: Final = "COORDINATOR_APPROVER_PASSWORD"
_SIGNATURE_REQUIRED: Final = "signature_required"


@dataclass(frozen=True, slots=True)
class Means:
    """The means to sign, as the options give them."""

    signer: str | None = None
    signatures: Sequence[str] = ()
    statement: Path | None = None

    @property
    def elsewhere(self) -> bool:
        return bool(self.signatures)

    @property
    def given(self) -> bool:
        return self.elsewhere or self.signer is not None

    def ready(self, coordinator: Coordinator, approver: str, approval_id: str) -> Means:
        """Return the means with which the approver decides it: without options the environment's.

        InvalidRequest for options that exclude each other; and, saying what to type, where a
        signature is needed and nothing gives it.
        """
        if self.signer is not None and self.signatures:
            raise InvalidRequest("give --signer or --signature, not both")
        if self.statement is not None and not self.signatures:
            raise InvalidRequest("--statement goes with --signature: it is what was signed")
        approvals = coordinator.wiring.policies.current().approvals
        known = approvals.approvers.get(approver)
        if self.given or known is None or not approvals.has_to_sign(approver):
            return self
        if not known.credentials:
            raise InvalidRequest(
                f"the policy asks for signatures and gives {approver} no credential: have one"
                f" added to approvals.approvers.{approver}",
                code=_SIGNATURE_REQUIRED,
            )
        if coordinator.wiring.settings.approver_signer:
            return Means(coordinator.wiring.settings.approver_signer)
        raise InvalidRequest(
            f"{approver} decides by signing with {' or '.join(map(str, known.credentials))}: add"
            f" --signer keystore:NAME, or sign what `coordinator approvals statement {approval_id}`"
            " prints and add --signature 0x…",
            code=_SIGNATURE_REQUIRED,
        )


def signature_of(
    coordinator: Coordinator,
    approver: str,
    means: Means,
    asked: SigningRequest | None,
) -> GivenSignature | None:
    """Return the approver's signature of what is ``asked``; None where nothing is signed."""
    from coordinator.domain.statements.signed import GivenSignature

    if means.elsewhere:
        return _made_elsewhere(coordinator, approver, means, asked)
    if means.signer is None or asked is None:
        return None
    signer = open_signer(means.signer)
    known = _approver(coordinator, approver)
    mine = f"address:{signer.address}"
    credentials = [str(one) for one in known.credentials] if known else []
    if mine not in credentials:
        has = " and ".join(credentials) or "no credential"
        raise InvalidRequest(
            f"the signer is {signer.address}, and the policy gives {approver} {has}",
            code="signature_invalid",
        )
    statement = asked.statement.as_dict()
    return GivenSignature(
        signature=signer.sign_typed(asked.message), credential=mine, statement=statement
    )


def _made_elsewhere(
    coordinator: Coordinator, approver: str, means: Means, asked: SigningRequest | None
) -> GivenSignature:
    from coordinator.domain.statements.signed import GivenSignature
    from coordinator.domain.statements.statement import Statement

    signed, statement = None, None
    if asked is not None:
        statement = asked.statement
    if means.statement is not None and asked is not None:
        try:
            statement = Statement.from_document(_read(means.statement), asked.trust)
        except ValueError as fault:
            raise InvalidRequest(f"{means.statement}: {fault}") from None
        signed = statement.as_dict()
    if len(means.signatures) == 1:
        return GivenSignature(signature=means.signatures[0], statement=signed)
    if asked is None or statement is None:
        raise InvalidRequest("give one --signature")
    safes = safes_of(coordinator, approver)
    if len(safes) != 1:
        raise InvalidRequest(
            f"several --signature are of the owners of one Safe, and {approver} has {len(safes)}"
        )
    digest, chain_id = statement.message(asked.trust).digest, asked.trust.chain_id
    return GivenSignature(
        signature=_joined(means.signatures, digest, chain_id, safes[0]),
        credential=f"safe:{safes[0]}",
        statement=signed,
    )


def _joined(parts: Sequence[str], digest: bytes, chain_id: int, safe: str) -> str:
    """Return owners' signatures as the one of their Safe."""
    from coordinator.domain.signatures.faults import BadSignature
    from coordinator.domain.signatures.safe_signatures import join_owners

    try:
        return join_owners(digest, parts, chain_id=chain_id, safe=safe)
    except BadSignature as fault:
        raise InvalidRequest(f"{fault.code}: {fault}", code="signature_invalid") from None


def safes_of(coordinator: Coordinator, approver: str | None = None) -> list[str]:
    """Return the addresses of the approver's Safes, or of everybody's."""
    approvers = coordinator.wiring.policies.current().approvals.approvers
    found = [
        one.address
        for name, known in approvers.items()
        if approver in (None, name)
        for one in known.credentials
        if one.kind.value == "safe"
    ]
    return list(dict.fromkeys(found))


def somebody_signs(coordinator: Coordinator) -> bool:
    """Whether any decision is made by signing."""
    approvals = coordinator.wiring.policies.current().approvals
    return any(map(approvals.has_to_sign, approvals.approvers))


def _approver(coordinator: Coordinator, name: str) -> Approver | None:
    return coordinator.wiring.policies.current().approvals.approvers.get(name)


def open_signer(text: str) -> Any:
    """Return the signer of this text, opened with the password that is set or typed."""
    from coordinator.config import Secrets, environment
    from coordinator.provisioning.approver_keys import open_approver_signer

    secrets = Secrets(environment())
    return open_approver_signer(text, secrets, lambda: _password(secrets), setting=_SIGNER)


def _password(secrets: Mapping[str, str]) -> str:
    given = secrets.get(_PASSWORD)
    if given is not None:
        return given
    if mode.json or not sys.stdin.isatty():
        raise InvalidRequest(f"{_PASSWORD} (or {_PASSWORD}_FILE) is not set")
    return str(typer.prompt("Password of your keystore", hide_input=True, err=True))


def _read(path: Path) -> Any:
    try:
        return json.loads(decode_file(path.read_bytes()))
    except OSError as fault:
        raise InvalidRequest(f"{path} can't be read: {fault.strerror}") from None
    except (ValueError, RecursionError):
        raise InvalidRequest(f"{path} is not JSON") from None
