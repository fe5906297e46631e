"""Signed statements, and the check that a credential of the policy signed just that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from coordinator.domain.policy.approvals import Approver
from coordinator.domain.policy.credentials import Credential, CredentialKind
from coordinator.domain.signatures.ecdsa import recover_address
from coordinator.domain.signatures.faults import BadSignature, SignatureFault
from coordinator.domain.signatures.safe_signatures import SafeState, signers_of
from coordinator.domain.statements.statement import Statement
from coordinator.domain.typed_data import Trust, TypedData


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """A statement as it was signed, with the credential, and a Safe's owners where it is one."""

    statement: Statement
    credential: Credential
    signature: str
    safe: SafeState | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON, as the audit log keeps it: it proves itself without the database."""
        return {
            "statement": self.statement.as_dict(),
            "credential": str(self.credential),
            "signature": self.signature,
            "safe": None if self.safe is None else self.safe.as_dict(),
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Signed:
        """Return what JSON says; ValueError with one sentence when it is malformed."""
        try:
            safe, signature = stored["safe"], stored["signature"]
            statement, credential = stored["statement"], stored["credential"]
        except (KeyError, TypeError):
            raise ValueError("a signed statement is missing") from None
        if not isinstance(signature, str) or not isinstance(credential, str):
            raise ValueError("a signature and its credential are text")
        return cls(
            statement=Statement.from_dict(statement),
            credential=Credential.parse(credential),
            signature=signature,
            safe=None if safe is None else SafeState.from_dict(safe),
        )

    def digest(self, trust: Trust) -> bytes:
        """Return the 32 bytes that were signed."""
        return self.statement.message(trust).digest


@dataclass(frozen=True, slots=True)
class SigningRequest:
    """A statement with the treasury, chain and kernel that it is for."""

    statement: Statement
    trust: Trust

    @property
    def message(self) -> TypedData:
        """The EIP-712 message to sign."""
        return self.statement.message(self.trust)

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON: the words, the typed data as wallets take it, and its hash."""
        return {
            "words": self.statement.as_words(),
            "statement": self.statement.as_dict(),
            "typed_data": self.message.document(),
            "hash": "0x" + self.message.digest.hex(),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenSignature:
    """A signature as an approver gives it: 0x and hex digits.

    Without ``statement`` it is taken for one of what is asked now; without ``credential`` for that
    of the approver's credentials which fits.
    """

    signature: str
    credential: str | None = None
    statement: Mapping[str, Any] | None = None


def signed_as_given(
    given: GivenSignature, expected: Statement, approver: Approver, trust: Trust
) -> Signed:
    """Return what was signed, and with what; ValueError with one sentence when malformed."""
    statement = expected if given.statement is None else Statement.from_dict(given.statement)
    digest = statement.message(trust).digest
    return Signed(
        statement=statement,
        credential=_credential(given, digest, approver.credentials),
        signature=given.signature,
    )


def _credential(given: GivenSignature, digest: bytes, known: Sequence[Credential]) -> Credential:
    if given.credential is not None:
        return Credential.parse(given.credential)
    if not known:
        raise BadSignature(
            "the policy in force gives this approver no credential",
            code=SignatureFault.NOT_A_CREDENTIAL,
        )
    addresses = [one for one in known if one.kind is CredentialKind.ADDRESS]
    others = [one for one in known if one.kind is not CredentialKind.ADDRESS]
    if not addresses:
        return others[0]
    try:
        signer = recover_address(digest, given.signature)
    except BadSignature:
        if not others:
            raise
        return others[0]
    return next((one for one in addresses if one.address == signer), (others or addresses)[0])


def check_signed(
    signed: Signed, expected: Statement, approver: Approver | None, *, name: str, trust: Trust
) -> None:
    """Raise BadSignature unless one of the approver's credentials signed just ``expected``.

    A Safe's signature is compared with the owners that were recorded; whether they still are its
    owners only the chain can say.
    """
    if approver is None or signed.credential not in approver.credentials:
        raise BadSignature(
            f"{signed.credential} is not a credential of {name} in the policy in force",
            code=SignatureFault.NOT_A_CREDENTIAL,
        )
    check_signed_by(signed, expected, trust)


def check_signed_by(signed: Signed, expected: Statement, trust: Trust) -> None:
    """Raise BadSignature unless the credential that it names signed just ``expected``."""
    try:
        _check_signer(signed, trust)
    except BadSignature:
        if not any(_is_signed_for(signed, former) for former in trust.before()):
            raise
    wrong = next(signed.statement.differences(expected), None)
    if wrong is not None:
        raise BadSignature(
            f"another statement was signed: {wrong}", code=SignatureFault.OTHER_STATEMENT
        )


def _check_signer(signed: Signed, trust: Trust) -> None:
    signers = _signers(signed, trust)
    address = signed.credential.address
    if signed.credential.kind is CredentialKind.ADDRESS and signers != (address,):
        raise BadSignature(
            f"it is not {address}'s signature of this statement for this treasury and chain",
            code=SignatureFault.OTHER_SIGNER,
        )


def _is_signed_for(signed: Signed, trust: Trust) -> bool:
    try:
        _check_signer(signed, trust)
    except BadSignature:
        return False
    return True


def signed_for(signed: Signed, trust: Trust) -> Trust:
    """Return the root of trust it was signed for: ``trust``, or one from before that fits."""
    return next((one for one in trust.before() if _is_signed_for(signed, one)), trust)


def _signers(signed: Signed, trust: Trust) -> tuple[str, ...]:
    digest = signed.digest(trust)
    if signed.credential.kind is CredentialKind.ADDRESS:
        return (recover_address(digest, signed.signature),)
    state = signed.safe
    if state is None or state.address != signed.credential.address:
        raise _malformed("the Safe's owners were not recorded")
    try:
        raw = bytes.fromhex(signed.signature.removeprefix("0x"))
    except ValueError:
        raise _malformed("the signature is not hex digits") from None
    return signers_of(digest, raw, chain_id=trust.chain_id, state=state)


def _malformed(reason: str) -> BadSignature:
    return BadSignature(reason, code=SignatureFault.MALFORMED)
