"""Check what an approver signed before the word is taken."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from coordinator.domain.errors import ChainUnavailable, ConfigurationError, InvalidRequest
from coordinator.domain.policy.credentials import CredentialKind
from coordinator.domain.ports import Chain
from coordinator.domain.reasons import Reason, ReasonCode
from coordinator.domain.signatures.faults import BadSignature, SignatureFault
from coordinator.domain.statements.signed import (
    GivenSignature,
    Signed,
    SigningRequest,
    check_signed,
    signed_as_given,
)
from coordinator.domain.statements.statement import Statement
from coordinator.domain.typed_data import Trust
from coordinator.ledger.proofs.agreement import shares_key
from coordinator.ledger.tx.transaction import Tx


@dataclass(frozen=True, slots=True)
class Word:
    """An approver's word: ``signed`` in full, or why what was given is no signature."""

    signed: Signed | None = None
    fault: str | None = None


UNSIGNED: Final = Word()


def refuse_word(tx: Tx, statement: Statement, approver: str, word: Word) -> Reason | None:
    """Return why the approver's word is not taken: unsigned where it has to be, or badly signed.

    What is signed although it need not be is checked all the same.
    """
    approvals = tx.policy.approvals
    known = approvals.approvers.get(approver)
    if word.fault is not None:
        return Reason(ReasonCode.SIGNATURE_INVALID, word.fault)
    if word.signed is None:
        if not approvals.has_to_sign(approver):
            return None
        means = ", ".join(map(str, known.credentials)) if known is not None else ""
        with_what = f"sign it with {means}" if means else "the policy gives them no credential"
        text = f"{approver} decides by signing only: {with_what}"
        return Reason(ReasonCode.SIGNATURE_REQUIRED, text)
    trust = tx.trust
    assert trust is not None
    try:
        check_signed(word.signed, statement, known, name=approver, trust=trust)
    except BadSignature as fault:
        return Reason(ReasonCode.SIGNATURE_INVALID, f"{fault.code}: {fault}")
    return None


def refuse_shared(
    decisions: Mapping[str, Mapping[str, Any]], approver: str, signed: Signed
) -> Reason | None:
    """Return why a signed word is not taken beside those given: they share a key."""
    agreed = {name: said for name, said in decisions.items() if said["decision"] == "approved"}
    why = shares_key(agreed, approver, {"signed": signed.as_dict()})
    if why is None:
        return None
    return Reason(ReasonCode.SIGNATURE_INVALID, f"{SignatureFault.SHARED_KEY}: {why}")


@dataclass(frozen=True, slots=True)
class Words:
    """Makes words of what approvers give, before the transaction: a Safe is asked on the chain."""

    chain: Callable[[], Chain]
    read: Callable[[Callable[[Tx], Word]], Word]

    def of(
        self,
        given: GivenSignature | None,
        approver: str,
        request: Callable[[Tx], SigningRequest],
    ) -> Word:
        """Return the word on what is asked; a malformed signature is one with a fault.

        ChainUnavailable where a Safe can't be asked.
        """
        if given is None:
            return UNSIGNED
        asked: list[SigningRequest] = []

        def make(tx: Tx) -> Word:
            asked[:] = [request(tx)]
            return _word(tx, given, asked[0], approver)

        word = self.read(make)
        return self._ask_safe(word, asked[0].trust)

    def _ask_safe(self, word: Word, trust: Trust) -> Word:
        """Return the word with the Safe's owners of the newest block, if it is a Safe's.

        ChainUnavailable where the chain can't be asked.
        """
        signed = word.signed
        if signed is None or signed.credential.kind is not CredentialKind.SAFE:
            return word
        chain = self.chain()
        safes, digest, block = chain.safes, signed.digest(trust), chain.head()
        if block is None:
            raise ChainUnavailable("no block to ask the Safe at")
        try:
            raw = bytes.fromhex(signed.signature.removeprefix("0x"))
            state = safes.state(signed.credential.address, block=block)
        except ValueError:
            return Word(fault=f"{SignatureFault.MALFORMED}: the signature is not hex digits")
        except ConfigurationError as fault:
            return Word(fault=f"{SignatureFault.NOT_VALID_ON_CHAIN}: {fault}")
        if not safes.is_valid(signed.credential.address, digest, raw, block=block):
            code = SignatureFault.NOT_VALID_ON_CHAIN
            return Word(fault=f"{code}: the Safe does not accept this signature of the statement")
        return Word(replace(signed, safe=state))


def _word(tx: Tx, given: GivenSignature, asked: SigningRequest, approver: str) -> Word:
    known = tx.policy.approvals.approvers.get(approver)
    if known is None:
        return UNSIGNED
    try:
        return Word(signed_as_given(given, asked.statement, known, asked.trust))
    except BadSignature as fault:
        return Word(fault=f"{fault.code}: {fault}")
    except ValueError as fault:
        return Word(fault=f"{SignatureFault.MALFORMED}: {fault}")


def signing_request(tx: Tx, statement: Statement) -> SigningRequest:
    """Return the statement for this treasury; InvalidRequest before there is one."""
    trust = tx.trust
    if trust is None:
        raise InvalidRequest("nothing can be signed before the treasury is known")
    return SigningRequest(statement, trust)
