"""The ledger as another signer of the treasury uses it: the same books, its own steps and lane."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from coordinator.domain.chain.escrow_key import EscrowKeys
from coordinator.domain.observed import Event
from coordinator.domain.policy.payees import Contracts
from coordinator.ledger.audit.log import AuditLog
from coordinator.ledger.ledger import Ledger
from coordinator.ledger.store.database import Database
from coordinator.ledger.tx.changes import ChangeFeed
from coordinator.ledger.tx.group_commit import GroupCommit
from coordinator.ledger.tx.identity import Identity
from coordinator.ledger.tx.policies import PolicyBook
from coordinator.ledger.tx.transaction import TxUrl
from coordinator.ledger.tx.transactions import Transactions


class SignerLedger(Ledger):
    """The books of ``whole``, for an account that signs beside the treasury's present one."""

    def __init__(self, whole: Ledger, signer: str) -> None:
        self._whole = whole
        self._signer = signer
        self.ticks = whole.ticks

    @property
    def signer_address(self) -> str:
        return self._signer

    @property
    def own_addresses(self) -> Sequence[str]:
        return self._whole.own_addresses

    @property
    def wallet(self) -> str | None:
        return self._whole.wallet

    @property
    def database(self) -> Database:
        return self._whole.database

    @property
    def audit(self) -> AuditLog:
        return self._whole.audit

    @property
    def identity(self) -> Identity:
        return self._whole.identity

    @property
    def contracts(self) -> Contracts:
        return self._whole.contracts

    @property
    def escrow_keys(self) -> EscrowKeys:
        return self._whole.escrow_keys

    @property
    def tx_url(self) -> TxUrl:
        return self._whole.tx_url

    def emit(self, event: Event) -> None:
        self._whole.emit(event)

    @cached_property
    def policies(self) -> PolicyBook:
        return self._whole.policies

    @cached_property
    def transactions(self) -> Transactions:
        return self._whole.transactions

    @cached_property
    def group_commit(self) -> GroupCommit:
        return self._whole.group_commit

    @cached_property
    def changes(self) -> ChangeFeed:
        return self._whole.changes
