"""Replay the treasury's accounts: it signs with no other, and each key names the next one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from coordinator.domain.audit import AuditRow
from coordinator.domain.chain.rotation import succession
from coordinator.domain.chain.steps import StepKind
from coordinator.domain.signatures.ecdsa import recover_address
from coordinator.domain.signatures.faults import BadSignature
from coordinator.domain.typed_data import Trust

_SIGNED: Final = frozenset(f"{kind}_signed" for kind in StepKind)
EVENTS: Final = _SIGNED | {"account_added", "account_ended", "treasury_rotated", "key_changed"}


class ReplayedAccounts:
    """Follows which accounts are ours at each row.

    The settings give those with which a log begins; later ones come by a rotation alone.
    """

    def __init__(self, trust: Trust | None) -> None:
        self._trust = trust
        #: Who has signed for a treasury that is a contract, since its key was changed last.
        self._signed_by: dict[str, int] = {}
        self._treasury: str | None = None
        self._own: set[str] = set()
        self._begun = False
        #: Accounts that no rotation has named yet, each with the row that added it.
        self._unnamed: dict[str, int] = {}

    def take(self, row: AuditRow) -> Iterator[str]:
        """Name what is wrong at the row, and follow it."""
        if row.event == "account_added":
            self._added(row)
        elif row.event == "account_ended":
            self._own.discard(row.body["address"])
        elif row.event == "treasury_rotated":
            yield from self._rotated(row)
        elif row.event == "key_changed":
            yield from self._changed(row)
        elif self._trust is not None and self._trust.key is not None:
            self._signed_by.setdefault(row.body["signer"], row.seq)
        elif row.body["signer"] not in self._own:
            yield f"{row.body['signer']}, who signed, was no account of this treasury"
        self._begun |= row.event in _SIGNED

    def faults(self) -> Iterator[str]:
        """Name what the log leaves open at its end."""
        for address, seq in self._unnamed.items():
            yield f"row {seq} (account_added accounts): no rotation names {address}"
        if self._trust is not None and self._trust.key is not None:
            yield from self._others_than(self._trust.key)
        present = self._trust.treasury if self._trust is not None else None
        if present is not None and self._treasury not in (None, present):
            yield f"the log ends with treasury {self._treasury}, not with {present}"

    def _added(self, row: AuditRow) -> None:
        address = row.body["address"]
        if row.body.get("wallet"):
            # The settings name it, whenever it is added, and it signs no step.
            return
        if self._begun or row.body["first_block"]:
            self._unnamed[address] = row.seq
            return
        self._own.add(address)
        self._treasury = self._treasury or address

    def _rotated(self, row: AuditRow) -> Iterator[str]:
        body, to = row.body, row.body["to"]
        if self._treasury is not None and body["former"] != self._treasury:
            yield f"the treasury was {self._treasury}, not {body['former']}"
        elif (why := self._not_named(row)) is not None:
            yield why
        else:
            self._own |= {body["former"], to}
        self._treasury, self._begun = to, True
        self._unnamed.pop(to, None)

    def _changed(self, row: AuditRow) -> Iterator[str]:
        if self._treasury is None or self._trust is None or self._trust.key is None:
            yield "the treasury is no contract whose key could be changed"
            return
        former = replace(self._trust.of_now(), key=row.body["former"])
        if (why := _not_signed_by(former, row)) is not None:
            yield why
        yield from self._others_than(row.body["former"])
        self._signed_by.clear()

    def _others_than(self, key: str) -> Iterator[str]:
        for signer, seq in self._signed_by.items():
            if signer != key:
                yield f"row {seq}: {signer}, who signed, was not the treasury's key"

    def _not_named(self, row: AuditRow) -> str | None:
        """Say why the former key has not named its successor."""
        trust = self._trust
        if trust is None:
            return "it is not known for which treasury it was signed"
        return _not_signed_by(Trust(row.body["former"], trust.chain_id, trust.kernel), row)


def _not_signed_by(former: Trust, row: AuditRow) -> str | None:
    """Say why the former key has not named its successor in the row."""
    body = row.body
    if not 0 <= body["after_row"] < row.seq:
        return f"it was signed after row {body['after_row']}"
    message = succession(former, body["to"], after_row=body["after_row"], at=row.at)
    try:
        signer = recover_address(message.digest, body["signature"])
    except BadSignature as fault:
        return f"the former key's signature does not count: {fault}"
    return None if signer == body["former"] else "the former key has not signed it"
