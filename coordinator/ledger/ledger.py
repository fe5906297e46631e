"""The ledger of one treasury: every book over one database, each built when it is first used."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property

from coordinator.domain.access.webhooks import WebhookSecrets
from coordinator.domain.chain.escrow_key import EscrowKeys
from coordinator.domain.observed import Event
from coordinator.domain.policy.payees import Contracts
from coordinator.domain.policy.policy import Policy
from coordinator.domain.ports import Ticks
from coordinator.ledger.access.api_keys import ApiKeyBook
from coordinator.ledger.audit.log import AuditLog
from coordinator.ledger.budgets.allocations import AllocationBook
from coordinator.ledger.budgets.increases import IncreaseBook
from coordinator.ledger.budgets.limit_book import LimitBook
from coordinator.ledger.budgets.overlay_book import OverlayBook
from coordinator.ledger.budgets.runs import RunBook
from coordinator.ledger.chain.accounts import AccountBook
from coordinator.ledger.chain.chain_book import ChainBook
from coordinator.ledger.chain.comparisons import ComparisonBook
from coordinator.ledger.chain.gas_book import GasBook
from coordinator.ledger.chain.journal_book import JournalBook
from coordinator.ledger.chain.nonce_lane import LaneBook
from coordinator.ledger.chain.steps import StepBook
from coordinator.ledger.events.event_book import EventBook
from coordinator.ledger.events.outbox import Outbox
from coordinator.ledger.events.webhook_book import WebhookBook
from coordinator.ledger.proofs.evidence import Evidence
from coordinator.ledger.restore.audit_import import AuditImport
from coordinator.ledger.spend.approvals import ApprovalBook
from coordinator.ledger.spend.background_book import BackgroundBook
from coordinator.ledger.spend.bonds import BondBook
from coordinator.ledger.spend.costs import CostBook
from coordinator.ledger.spend.proposals import ProposalBook
from coordinator.ledger.spend.purchases import PurchaseBook
from coordinator.ledger.store.database import Database
from coordinator.ledger.tx.activation import activate_policy
from coordinator.ledger.tx.changes import ChangeFeed
from coordinator.ledger.tx.checkpoints import CheckpointBook
from coordinator.ledger.tx.figures import FigureBook
from coordinator.ledger.tx.group_commit import GroupCommit
from coordinator.ledger.tx.hosts import HostBook
from coordinator.ledger.tx.identity import Identity, IdentityBook
from coordinator.ledger.tx.leases import LeaseBook
from coordinator.ledger.tx.notices import NoticeBook
from coordinator.ledger.tx.operations import OperationsBook
from coordinator.ledger.tx.policies import PolicyBook
from coordinator.ledger.tx.transaction import TxUrl
from coordinator.ledger.tx.transactions import Transactions
from coordinator.ledger.x402.authorisation_book import AuthorisationBook
from coordinator.ledger.x402.top_up_book import TopUpBook
from coordinator.ledger.x402.unused import UnusedBook


class Ledger(ABC):
    """The books. Whoever inherits it says which database, which treasury, and who observes."""

    ticks: Ticks

    @property
    @abstractmethod
    def database(self) -> Database:
        """The open database, at the present schema."""

    @property
    @abstractmethod
    def audit(self) -> AuditLog:
        """The audit log, with the key of the id secret."""

    @property
    @abstractmethod
    def identity(self) -> Identity:
        """The treasury, its chain and its contracts."""

    @property
    def signer_address(self) -> str:
        """The account whose steps and lane these are."""
        return self.identity.signer

    @property
    def own_addresses(self) -> Sequence[str]:
        """The accounts of ours that the settings name, the treasury's first."""
        return [self.identity.treasury]

    @property
    def wallet(self) -> str | None:
        """The account that x402 payments are made from, None where there is none."""
        return None

    @property
    @abstractmethod
    def contracts(self) -> Contracts:
        """The treasury and the rail's contracts, none of which can be paid."""

    @property
    @abstractmethod
    def escrow_keys(self) -> EscrowKeys:
        """The keys of escrows, made from the id secret."""

    @property
    @abstractmethod
    def tx_url(self) -> TxUrl:
        """The explorer's page of a transaction."""

    @abstractmethod
    def emit(self, event: Event) -> None:
        """Tell observers, after a commit; never raises and never waits."""

    @cached_property
    def identity_book(self) -> IdentityBook:
        return IdentityBook(self.database)

    @cached_property
    def policies(self) -> PolicyBook:
        return PolicyBook(self.database, self.audit, self.contracts)

    @cached_property
    def transactions(self) -> Transactions:
        return Transactions(self.database, self.audit, self.policies, self.tx_url, self.emit)

    @cached_property
    def group_commit(self) -> GroupCommit:
        return GroupCommit(self.transactions)

    def activate_policy(
        self, policy: Policy, *, author: str, reason: str, now: int, only_first: bool = False
    ) -> bool:
        """Put ``policy`` in force; False, and nothing written, when it already is.

        With ``only_first`` False too when any other was ever in force.
        """
        with self.transactions.write() as tx:
            return activate_policy(
                tx,
                policy,
                contracts=self.contracts,
                author=author,
                reason=reason,
                now=now,
                only_first=only_first,
            )

    @cached_property
    def operations(self) -> OperationsBook:
        return OperationsBook(self.transactions)

    @cached_property
    def api_keys(self) -> ApiKeyBook:
        return ApiKeyBook(self.transactions)

    @cached_property
    def changes(self) -> ChangeFeed:
        return ChangeFeed(self.database)

    @cached_property
    def events(self) -> EventBook:
        return EventBook(self.database, self.audit)

    @cached_property
    def webhooks(self) -> WebhookBook:
        return WebhookBook(self.transactions, self.webhook_secrets)

    @cached_property
    def webhook_secrets(self) -> WebhookSecrets:
        return WebhookSecrets(self.escrow_keys.secret)

    @cached_property
    def outbox(self) -> Outbox:
        return Outbox(self.transactions)

    @cached_property
    def purchases(self) -> PurchaseBook:
        return PurchaseBook(self.transactions, self.group_commit)

    @cached_property
    def approvals(self) -> ApprovalBook:
        return ApprovalBook(self.transactions, self.group_commit)

    @cached_property
    def proposals(self) -> ProposalBook:
        return ProposalBook(self.transactions)

    @cached_property
    def backgrounds(self) -> BackgroundBook:
        return BackgroundBook(self.transactions)

    @cached_property
    def bonds(self) -> BondBook:
        return BondBook(self.database)

    @cached_property
    def costs(self) -> CostBook:
        return CostBook(self.transactions, self.group_commit)

    @cached_property
    def limits(self) -> LimitBook:
        return LimitBook(self.database, self.policies)

    @cached_property
    def runs(self) -> RunBook:
        return RunBook(self.database, self.group_commit)

    @cached_property
    def increases(self) -> IncreaseBook:
        return IncreaseBook(self.database, self.group_commit)

    @cached_property
    def allocations(self) -> AllocationBook:
        return AllocationBook(self.database, self.policies, self.group_commit)

    @cached_property
    def overlays(self) -> OverlayBook:
        return OverlayBook(self.database, self.group_commit)

    @cached_property
    def notices(self) -> NoticeBook:
        return NoticeBook(self.database)

    @cached_property
    def leases(self) -> LeaseBook:
        who = self.identity
        return LeaseBook(
            self.database, chain_id=who.chain_id, signer=self.signer_address, ticks=self.ticks
        )

    @cached_property
    def webhook_leases(self) -> LeaseBook:
        """The lease of the one process that delivers to webhooks."""
        who = self.identity
        return LeaseBook(
            self.database,
            chain_id=who.chain_id,
            signer=who.treasury,
            ticks=self.ticks,
            kind="webhooks",
        )

    @cached_property
    def evidence(self) -> Evidence:
        return Evidence(self.audit, self.escrow_keys.key)

    @cached_property
    def steps(self) -> StepBook:
        return StepBook(
            self.transactions,
            self.evidence,
            chain_id=self.identity.chain_id,
            signer=self.signer_address,
        )

    @cached_property
    def unused(self) -> UnusedBook:
        return UnusedBook(self.transactions, self.evidence)

    @cached_property
    def authorisations(self) -> AuthorisationBook:
        return AuthorisationBook(self.transactions, self.evidence)

    @cached_property
    def top_ups(self) -> TopUpBook:
        return TopUpBook(self.transactions, self.evidence)

    @cached_property
    def lane(self) -> LaneBook:
        return LaneBook(self.transactions, self.steps)

    @cached_property
    def books(self) -> ChainBook:
        whose = self.identity
        watches = whose.treasury != whose.signer
        return ChainBook(
            self.transactions, self.steps, self.accounts, vault=whose.vault, watches=watches
        )

    @cached_property
    def accounts(self) -> AccountBook:
        return AccountBook(self.transactions, self.own_addresses, wallet=self.wallet)

    @cached_property
    def journal(self) -> JournalBook:
        return JournalBook(self.database, self.audit.codes)

    @cached_property
    def comparisons(self) -> ComparisonBook:
        return ComparisonBook(self.database, self.audit.codes)

    @cached_property
    def gas(self) -> GasBook:
        return GasBook(self.database)

    @cached_property
    def figures(self) -> FigureBook:
        return FigureBook(self.database)

    @cached_property
    def checkpoints(self) -> CheckpointBook:
        return CheckpointBook(self.transactions)

    @cached_property
    def hosts(self) -> HostBook:
        return HostBook(self.transactions)

    @cached_property
    def imports(self) -> AuditImport:
        return AuditImport(self.transactions, self.escrow_keys.key)
