"""The tables. Amounts are integers in base units, times unix seconds, hashes hex with 0x."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from sqlalchemy import (
    DDL,
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    column,
    event,
    func,
    select,
    table,
    text,
)

from coordinator.domain.chain.events import EscrowState
from coordinator.domain.chain.journal import EntryKind
from coordinator.domain.chain.steps import StepKind, StepStatus
from coordinator.domain.hosts import HostRole
from coordinator.domain.purchase.lifecycle import Status
from coordinator.domain.purchase.proposal import ProposalKind, ProposalStatus

metadata = MetaData()

# SQLite gives rowid semantics (and autoincrement) only to INTEGER.
_Id = BigInteger().with_variant(Integer, "sqlite")


def _one_of(column: str, values: type[StrEnum] | tuple[str, ...]) -> CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=f"{column}_known")


def _index_of_the_set(name: str, column: str, *, unique: bool = False) -> Index:
    """Of the rows in which the column is not null: the others cost nothing."""
    there = text(f"{column} IS NOT NULL")
    return Index(name, column, unique=unique, sqlite_where=there, postgresql_where=there)


policies = Table(
    "policies",
    metadata,
    Column("version", _Id, primary_key=True, autoincrement=True),
    Column("hash", String(64), nullable=False),
    Column("author", String(200), nullable=False),
    Column("reason", Text, nullable=False),
    Column("activated_at", BigInteger, nullable=False),
    Column("document", Text, nullable=False),
)

purchases = Table(
    "purchases",
    metadata,
    Column("seq", _Id, primary_key=True, autoincrement=True),
    Column("id", String(40), nullable=False, unique=True),
    # The moves between statuses stand in domain/purchase.py.
    Column("status", String(20), nullable=False),
    # Null: seen on chain after a rebuild, and not asked for again yet.
    Column("agent", String(64)),
    Column("idempotency_key", String(200)),
    Column("terms_hash", String(64)),
    Column("provider", String(64), nullable=False),
    Column("provider_name", String(64)),
    Column("amount", BigInteger, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("service", String(200)),
    Column("category", String(64)),
    Column("task", String(200)),
    Column("session", String(200)),
    Column("escrow_key", String(66), nullable=False),
    Column("settle", String(20), nullable=False),
    Column("policy_hash", String(64), nullable=False),
    Column("decision", Text, nullable=False),
    Column("reason_code", String(40)),
    Column("reason_message", Text),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("approved_at", BigInteger),
    Column("ended_at_block", BigInteger),
    # Orders that the executor carries out: 1 until done.
    Column("cancel_wanted", Integer, nullable=False, default=0),
    Column("settle_wanted", Integer, nullable=False, default=0),
    Column("stranded", Text),
    _one_of("status", Status),
    CheckConstraint("amount > 0", name="amount_positive"),
    Index("purchases_status", "status"),
    Index("purchases_agent", "agent", "seq"),
    Index("purchases_escrow_key", "escrow_key"),
    Index(
        "purchases_waiting",
        "agent",
        sqlite_where=text("status = 'awaiting_approval'"),
        postgresql_where=text("status = 'awaiting_approval'"),
    ),
    _index_of_the_set("purchases_ended", "ended_at_block"),
    _index_of_the_set("purchases_task", "task"),
    _index_of_the_set("purchases_session", "session"),
)

# What was asked for, and signed, for each purchase that is settled by x402.
authorisations = Table(
    "authorisations",
    metadata,
    Column("purchase_id", ForeignKey("purchases.id"), primary_key=True),
    Column("wallet", String(42), nullable=False),
    Column("host", String(255), nullable=False),
    Column("url", Text, nullable=False),
    # The offer that was taken of the server's answer (JSON); a payment repeats it word for word.
    Column("offer", Text, nullable=False),
    # From this unix second on the token refuses it; null until it is signed.
    Column("valid_before", BigInteger),
    Column("signature", Text),
    Column("signed_at", BigInteger),
    Index(
        "authorisations_unsigned",
        "purchase_id",
        sqlite_where=text("signature IS NULL"),
        postgresql_where=text("signature IS NULL"),
    ),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("agent", String(64), primary_key=True),
    Column("idempotency_key", String(200), primary_key=True),
    Column("purchase_id", ForeignKey("purchases.id"), nullable=False),
    Column("terms_hash", String(64), nullable=False),
    # Of a row and an index of the same a decision would write two pages.
    sqlite_with_rowid=False,
)

approvals = Table(
    "approvals",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("purchase_id", ForeignKey("purchases.id"), nullable=False, unique=True),
    Column("required", Integer, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
)

approval_decisions = Table(
    "approval_decisions",
    metadata,
    Column("approval_id", ForeignKey("approvals.id"), primary_key=True),
    Column("approver", String(64), primary_key=True),
    Column("decision", String(10), nullable=False),
    Column("reason", Text),
    Column("at", BigInteger, nullable=False),
    Column("host", String(200), nullable=False),
    Column("user", String(200), nullable=False),
    _one_of("decision", ("approved", "rejected")),
)

counters = Table(
    "counters",
    metadata,
    # A hold names the counters that it charged by this id: it is never given away again.
    Column("id", _Id, primary_key=True, autoincrement=True),
    Column("scope_kind", String(20), nullable=False),
    Column("scope_id", String(300), nullable=False),
    Column("window", String(20), nullable=False),
    Column("start", BigInteger, nullable=False),
    Column("held", BigInteger, nullable=False),
    Column("spent", BigInteger, nullable=False),
    CheckConstraint("held >= 0", name="held_not_negative"),
    UniqueConstraint("scope_kind", "scope_id", "window", "start"),
)

# What agents spend without an escrow: model calls, gas at a rate, fees of interfaces.
costs = Table(
    "costs",
    metadata,
    Column("seq", _Id, primary_key=True, autoincrement=True),
    Column("id", String(40), nullable=False, unique=True),
    Column("agent", String(64), nullable=False),
    Column("category", String(64)),
    Column("provider", String(64)),
    Column("task", String(200)),
    Column("session", String(200)),
    Column("purpose", Text),
    Column("created_at", BigInteger, nullable=False),
    # Null: spent already when it was told.
    Column("expires_at", BigInteger),
    Index("costs_agent", "agent", "seq"),
    Index("costs_expiry", "expires_at"),
    Index("costs_session", "session"),
    Index("costs_task", "task"),
)

holds = Table(
    "holds",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=True),
    Column("kind", String(10), nullable=False),
    Column("purchase_id", ForeignKey("purchases.id")),
    Column("cost_id", ForeignKey("costs.id")),
    Column("amount", BigInteger, nullable=False),
    Column("status", String(10), nullable=False),
    Column("posted", BigInteger, nullable=False, default=0),
    Column("placed_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger),
    # The ids of the counters that it charged, as JSON: post and void change exactly these.
    Column("charges", Text, nullable=False),
    # 0: a cost that ended without its owner, who may still say what it came to.
    Column("by_owner", Integer, nullable=False, server_default="1"),
    _one_of("kind", ("purchase", "bond", "off_chain")),
    _one_of("status", ("held", "posted", "voided")),
    CheckConstraint("(purchase_id IS NULL) <> (cost_id IS NULL)", name="hold_of_one"),
    UniqueConstraint("purchase_id", "kind"),
    _index_of_the_set("holds_cost", "cost_id", unique=True),
    Index("holds_status", "status"),
)

# A view, one row for each counter that a hold charged.
hold_charges = table(
    "hold_charges",
    column("hold_id"),
    column("scope_kind"),
    column("scope_id"),
    column("window"),
    column("start"),
)

# How many purchases are in each status and their amounts; triggers keep it. Those that are settled
# by x402 are counted apart, as ``x402_approved`` and so on: another account's USDC is theirs.
purchase_totals = Table(
    "purchase_totals",
    metadata,
    Column("status", String(30), primary_key=True),
    Column("count", BigInteger, nullable=False),
    Column("amount", BigInteger, nullable=False),
)

# Tasks and sessions that were opened by name, with limits of their own (JSON).
openings = Table(
    "openings",
    metadata,
    Column("kind", String(10), primary_key=True),
    Column("id", String(200), primary_key=True),
    Column("agent", String(64)),
    Column("limits", Text, nullable=False),
    Column("status", String(10), nullable=False),
    Column("opened_by", String(64), nullable=False),
    Column("opened_at", BigInteger, nullable=False),
    Column("closed_by", String(64)),
    Column("closed_at", BigInteger),
    # 1: by the agent itself, whose limits only lower those of the policy.
    Column("by_agent", Integer, nullable=False, server_default="0"),
    _one_of("kind", ("task", "session")),
    _one_of("status", ("open", "closed")),
)

# What is added to the policy file, oldest first: later rows of a scope replace earlier ones,
# grants add up until they end or are withdrawn.
overlays = Table(
    "overlays",
    metadata,
    Column("seq", _Id, primary_key=True, autoincrement=True),
    Column("id", String(40), nullable=False, unique=True),
    Column("kind", String(12), nullable=False),
    Column("scope_kind", String(20)),
    Column("scope_id", String(300)),
    Column("window", String(20)),
    Column("amount", BigInteger),
    Column("starts_at", BigInteger, nullable=False),
    Column("ends_at", BigInteger),
    # The request that it comes from; several move money within a pool.
    Column("increase_id", String(40)),
    # Of a withdrawal: the overlay that ends with it.
    Column("withdrawn", String(40)),
    Column("author", String(200), nullable=False),
    Column("reason", Text, nullable=False),
    _one_of("kind", ("grant", "allocation", "disabled", "enabled", "withdrawn")),
)

# What agents ask beyond their limits. A grant makes an overlay.
increases = Table(
    "increases",
    metadata,
    Column("seq", _Id, primary_key=True, autoincrement=True),
    Column("id", String(40), nullable=False, unique=True),
    Column("kind", String(10), nullable=False),
    Column("agent", String(64), nullable=False),
    Column("scope_kind", String(20), nullable=False),
    Column("scope_id", String(300), nullable=False),
    Column("window", String(20), nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("lasts_seconds", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("status", String(10), nullable=False),
    Column("required", Integer, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("overlay_id", String(40)),
    _one_of("kind", ("increase", "emergency")),
    _one_of("status", ("waiting", "granted", "rejected", "expired")),
    Index("increases_status", "status"),
    Index(
        "increases_waiting",
        "agent",
        sqlite_where=text("status = 'waiting'"),
        postgresql_where=text("status = 'waiting'"),
    ),
)

increase_decisions = Table(
    "increase_decisions",
    metadata,
    Column("increase_id", ForeignKey("increases.id"), primary_key=True),
    Column("approver", String(64), primary_key=True),
    Column("decision", String(10), nullable=False),
    Column("reason", Text),
    Column("at", BigInteger, nullable=False),
    _one_of("decision", ("approved", "rejected")),
)

# What people are told, each once by its key; delivered outside any decision.
notices = Table(
    "notices",
    metadata,
    Column("seq", _Id, primary_key=True, autoincrement=True),
    Column("key", String(500), nullable=False, unique=True),
    Column("at", BigInteger, nullable=False),
    Column("kind", String(40), nullable=False),
    Column("severity", String(10), nullable=False),
    Column("subject", String(300), nullable=False),
    Column("message", Text, nullable=False),
    # Ids and amounts as JSON.
    Column("fields", Text, nullable=False, server_default="{}"),
    Column("tries", Integer, nullable=False, default=0),
    # Null: nothing is left to deliver.
    Column("due_at", BigInteger),
    Column("delivered_at", BigInteger),
    Column("fault", Text),
    _one_of("severity", ("info", "warning", "critical")),
    Index("notices_due", "due_at"),
    Index("notices_kind", "kind", "at"),
)

steps = Table(
    "steps",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=True),
    Column("chain_id", BigInteger, nullable=False),
    Column("signer", String(42), nullable=False),
    Column("nonce", BigInteger, nullable=False),
    # 0 for what is signed; from 1 on for the members of a batch.
    Column("position", Integer, nullable=False, server_default="0"),
    # Of a member the batch, whose attempts are its own.
    Column("batch_id", ForeignKey("steps.id")),
    Column("kind", String(10), nullable=False),
    Column("status", String(10), nullable=False),
    Column("purchase_id", ForeignKey("purchases.id")),
    Column("escrow_id", String(66)),
    Column("recipient", String(42), nullable=False),
    Column("data", Text, nullable=False),
    Column("gas_limit", BigInteger, nullable=False),
    Column("usdc", BigInteger),
    Column("reference", String(40)),
    Column("created_at", BigInteger, nullable=False),
    Column("revert_reason", Text),
    # Proves that the executor made this call.
    Column("mac", String(220), nullable=False),
    # Its own bytes are sent no more: a self-send of zero takes the nonce.
    Column("given_up", Integer, nullable=False, server_default="0"),
    UniqueConstraint("chain_id", "signer", "nonce", "position"),
    _one_of("kind", StepKind),
    _one_of("status", StepStatus),
    Index("steps_purchase", "purchase_id"),
    Index("steps_batch", "batch_id"),
    Index("steps_status", "status"),
    Index("steps_reference", "reference"),
)

# The step whose attempts are a step's: a batch's for its members.
SIGNED_AS: Final = func.coalesce(steps.c.batch_id, steps.c.id)
_of_a_batch = steps.alias()
# How many members the batch of a step has; 0 where it is in none.
MEMBERS: Final = (
    select(func.count())
    .where(_of_a_batch.c.batch_id == steps.c.batch_id)
    .correlate(steps)
    .scalar_subquery()
    .label("members")
)

attempts = Table(
    "attempts",
    metadata,
    Column("hash", String(66), primary_key=True),
    Column("step_id", ForeignKey("steps.id"), nullable=False),
    Column("raw", Text, nullable=False),
    Column("max_fee_per_gas", BigInteger, nullable=False),
    Column("max_priority_fee_per_gas", BigInteger, nullable=False),
    Column("signed_at", BigInteger, nullable=False),
    Column("block_number", BigInteger),
    Column("block_hash", String(66)),
    Column("succeeded", Integer),
    Column("gas_used", BigInteger),
    Column("effective_gas_price", BigInteger),
    Column("l1_fee_wei", BigInteger),
    # A self-send of zero that takes the nonce of a step given up.
    Column("fills", Integer, nullable=False, server_default="0"),
    Index("attempts_step", "step_id"),
    Index("attempts_block", "block_number"),
)

escrows = Table(
    "escrows",
    metadata,
    Column("seq", _Id, primary_key=True, autoincrement=True),
    Column("escrow_id", String(66), nullable=False, unique=True),
    Column("escrow_key", String(66)),
    # Null: an escrow of ours that no purchase knows, which reconciling reports.
    Column("purchase_id", ForeignKey("purchases.id")),
    # The account of ours that opened it, and alone may end it.
    Column("requester", String(42)),
    Column("provider", String(42), nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("service_hash", String(66), nullable=False),
    Column("state", String(12), nullable=False),
    Column("deadline", BigInteger, nullable=False),
    Column("window_ends", BigInteger),
    Column("created_at", BigInteger, nullable=False),
    Column("last_block", BigInteger, nullable=False),
    _one_of("state", EscrowState),
    Index("escrows_purchase", "purchase_id"),
    Index("escrows_key", "escrow_key"),
    Index("escrows_state", "state"),
    # What an approver asks of a provider: how many were settled with it before.
    Index(
        "escrows_settled",
        "provider",
        # The same in every row: without it SQLite takes the index of states, which has them all.
        "state",
        sqlite_where=text("state = 'settled'"),
        postgresql_where=text("state = 'settled'"),
    ),
)

# What an escrow's row is folded from, so that a lost block can be taken out of it again.
escrow_events = Table(
    "escrow_events",
    metadata,
    Column("block_hash", String(66), primary_key=True),
    Column("log_index", Integer, primary_key=True),
    Column("block_number", BigInteger, nullable=False),
    Column("tx_hash", String(66), nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("kind", String(20), nullable=False),
    Column("escrow_id", String(66), nullable=False),
    Column("escrow_key", String(66)),
    Column("requester", String(42)),
    Column("provider", String(42)),
    Column("amount", BigInteger),
    Column("service_hash", String(66)),
    Column("deadline", BigInteger),
    Column("state", String(12)),
    Column("window_ends", BigInteger),
    _one_of("kind", ("escrow_created", "escrow_funded", "escrow_moved", "authorisation_used")),
    Index("escrow_events_escrow", "escrow_id", "block_number", "log_index"),
    Index("escrow_events_block", "block_number"),
    Index("escrow_events_key", "escrow_key"),
    Index(
        "escrow_events_disputed",
        "escrow_id",
        sqlite_where=text("state = 'disputed'"),
        postgresql_where=text("state = 'disputed'"),
    ),
)

# What was done to a treasury that is a Safe. Of lost blocks it is put aside until they are read
# again: then it is there again, or told to be gone.
safe_events = Table(
    "safe_events",
    metadata,
    Column("block_hash", String(66), primary_key=True),
    Column("log_index", Integer, primary_key=True),
    Column("block_number", BigInteger, nullable=False),
    Column("tx_hash", String(66), nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("kind", String(20), nullable=False),
    Column("name", String(40), nullable=False),
    Column("said", Text, nullable=False),
    Column("told", Integer, nullable=False),
    Column("lost", Integer, nullable=False),
    _one_of("kind", ("role_used", "treasury_changed", "approval_left")),
    Index("safe_events_block", "block_number"),
)

journal = Table(
    "journal",
    metadata,
    Column("block_hash", String(66), primary_key=True),
    Column("log_index", Integer, primary_key=True),
    Column("block_number", BigInteger, nullable=False),
    Column("tx_hash", String(66), nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("kind", String(12), nullable=False),
    Column("debit", String(80), nullable=False),
    Column("credit", String(80), nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("escrow_key", String(66)),
    _one_of("kind", EntryKind),
    CheckConstraint("amount >= 0", name="amount_not_negative"),
    Index("journal_block", "block_number", "log_index"),
    Index("journal_escrow", "escrow_key"),
    Index("journal_kind", "kind", "at"),
)

# Named positions on chain: books, the last block whose events are in them; final, the last of
# these that can't be undone and whose events were read twice.
cursors = Table(
    "cursors",
    metadata,
    Column("name", String(20), primary_key=True),
    Column("number", BigInteger, nullable=False),
    Column("hash", String(66), nullable=False),
    Column("at", BigInteger, nullable=False),
)

observations = Table(
    "observations",
    metadata,
    Column("treasury", String(42), primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("block_number", BigInteger, nullable=False),
    Column("usdc_balance", BigInteger, nullable=False),
    Column("usdc_allowance", BigInteger, nullable=False),
    # Text: wei of a rich account exceeds 64 bits.
    Column("gas_balance_wei", String(40), nullable=False),
    Column("max_fee_per_gas", BigInteger, nullable=False),
    # What a payer's own way takes: 0 on a wallet.
    Column("call_gas", BigInteger, nullable=False),
    Column("making_gas", BigInteger, nullable=False),
    Column("l1_fee_upper_bound_wei", BigInteger, nullable=False),
    Column("note", Text),
)

leases = Table(
    "leases",
    metadata,
    Column("name", String(100), primary_key=True),
    Column("holder", String(100), nullable=False),
    Column("host", String(300), nullable=False),
    Column("pid", Integer, nullable=False),
    # Grows with every takeover; commits of a holder that lost the lease are refused by it.
    Column("token", BigInteger, nullable=False),
    # Milliseconds: takeovers happen within seconds.
    Column("expires_at_ms", BigInteger, nullable=False),
    # For how long it was taken.
    Column("seconds", Integer, nullable=False),
)

pauses = Table(
    "pauses",
    metadata,
    Column("scope_kind", String(20), primary_key=True),
    Column("scope_id", String(64), primary_key=True),
    Column("reason", Text, nullable=False),
    Column("by", String(200), nullable=False),
    Column("at", BigInteger, nullable=False),
)

# What operators order for the treasury itself: withdrawals, and minting of test tokens.
orders = Table(
    "orders",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("kind", String(10), nullable=False),
    Column("recipient", String(42), nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("by", String(64), nullable=False),
    Column("reason", Text, nullable=False),
    Column("status", String(10), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("message", Text),
    _one_of("kind", ("withdraw", "mint", "top_up")),
    _one_of("status", ("approved", "done", "failed")),
    Index("orders_status", "status"),
)

# What one approver proposed and others have to approve too; who did, the audit log tells.
proposals = Table(
    "proposals",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("kind", String(10), nullable=False),
    # JSON with sorted keys: the same terms are the same text.
    Column("terms", Text, nullable=False),
    Column("status", String(20), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    _one_of("kind", ProposalKind),
    _one_of("status", ProposalStatus),
    Index("proposals_status", "status"),
)

# What the database belongs to: it must never be used with another chain or treasury.
identity = Table(
    "identity",
    metadata,
    Column("chain_id", BigInteger, primary_key=True, autoincrement=False),
    Column("genesis", String(66), nullable=False),
    Column("kernel", String(42), nullable=False),
    Column("vault", String(42), nullable=False),
    Column("usdc", String(42), nullable=False),
    Column("treasury", String(42), nullable=False),
    Column("signer", String(42), nullable=False),
    # A keyed hash that only the same id secret gives: another would break keys and audit log.
    Column("secret_mark", String(64), nullable=False),
)

# A comparison from ``from_block`` on that has come to ``reached``, with what it has found (JSON).
rescans = Table(
    "rescans",
    metadata,
    Column("from_block", BigInteger, primary_key=True, autoincrement=False),
    Column("reached", BigInteger, nullable=False),
    Column("events", BigInteger, nullable=False),
    Column("found", Text, nullable=False),
)

# A digest of every page of escrows that the chain told just so, and when.
comparisons = Table(
    "comparisons",
    metadata,
    Column("page", BigInteger, primary_key=True, autoincrement=False),
    Column("digest", String(64), nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("mac", String(220), nullable=False),
)

# The last comparison of all books with the chain: one row, for monitoring.
last_reconciliation = Table(
    "last_reconciliation",
    metadata,
    Column("block_number", BigInteger, primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False),
    Column("discrepancies", BigInteger, nullable=False),
)

# Keys of the service. Of the token only a digest is here.
api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String(24), primary_key=True),
    Column("role", String(10), nullable=False),
    Column("name", String(64), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("created_by", String(64), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Column("revoked_at", BigInteger),
    Column("revoked_by", String(64)),
    Column("replaced_by", String(24)),
    Column("last_used_at", BigInteger),
)

# Targets of events; what they are stands in the audit log too, where each row is proved.
webhooks = Table(
    "webhooks",
    metadata,
    Column("id", String(24), primary_key=True),
    Column("url", Text, nullable=False),
    # A JSON list.
    Column("types", Text, nullable=False),
    Column("agent", String(64)),
    Column("created_by", String(64), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    # Secrets are derived from the id and this number; none is stored.
    Column("generation", Integer, nullable=False),
    Column("previous_until", BigInteger),
    Column("disabled_at", BigInteger),
    Column("disabled_why", Text),
    # The audit rows up to this one were handed over, or are among its deliveries.
    Column("position", BigInteger, nullable=False),
    # What was under way when people asked for a replay does not move the position.
    Column("replays", Integer, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("failing_since", BigInteger),
    Column("retry_at", BigInteger, nullable=False),
)

# Events that a target did not take at once.
webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("webhook_id", ForeignKey("webhooks.id"), primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("tries", Integer, nullable=False),
    Column("failed_at", BigInteger, nullable=False),
    # Null: not tried again.
    Column("due_at", BigInteger),
    Column("delivered_at", BigInteger),
    Column("fault", Text),
    Index("webhook_deliveries_due", "webhook_id", "due_at"),
)

explanations = Table(
    "explanations",
    metadata,
    Column("discrepancy_id", String(40), primary_key=True),
    Column("by", String(64), nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
)

audit = Table(
    "audit",
    metadata,
    # Counted by the log itself: a number that a sequence skipped would look like a lost row.
    Column("seq", _Id, primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False),
    Column("event", String(40), nullable=False),
    Column("subject", String(100), nullable=False),
    Column("body", Text, nullable=False),
    Column("hash", String(64), nullable=False),
    # Whose key signed it, and the signature of the hash.
    Column("host", String(80), nullable=False),
    Column("signature", String(128), nullable=False),
    Index("audit_subject", "subject"),
    Index(
        "audit_policies",
        "seq",
        sqlite_where=text("event = 'policy_activated'"),
        postgresql_where=text("event = 'policy_activated'"),
    ),
)

# Whose rows count: keys that the treasury's key has certified, and until which row of the log.
hosts = Table(
    "hosts",
    metadata,
    Column("id", String(80), primary_key=True),
    Column("name", String(60), nullable=False),
    Column("public_key", String(64), nullable=False, unique=True),
    Column("role", String(10), nullable=False),
    Column("after_row", BigInteger, nullable=False),
    Column("certified_at", BigInteger, nullable=False),
    Column("certificate", String(132), nullable=False),
    Column("last_row", BigInteger),
    Column("revoked_at", BigInteger),
    Column("revocation", String(132)),
    _one_of("role", HostRole),
)

# A worker's word that it has checked each row of the log up to one.
seals = Table(
    "seals",
    metadata,
    Column("count", BigInteger, primary_key=True, autoincrement=False),
    Column("hash", String(64), nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("public_key", String(64), nullable=False),
    Column("signature", String(128), nullable=False),
)

# The same for steps whose calls change no more: a digest of all up to one.
step_seals = Table(
    "step_seals",
    metadata,
    Column("step_id", BigInteger, primary_key=True, autoincrement=False),
    Column("digest", String(64), nullable=False),
    Column("mac", String(220), nullable=False),
)

# Of what is no promise any more only the number counts: sums of it grow without bound.
_PROMISE: Final = (
    "CASE WHEN {row}.status IN ('awaiting_approval', 'approved', 'created')"
    " THEN {row}.amount ELSE 0 END"
)
_COUNTED_AS: Final = (
    "CASE WHEN {row}.settle = 'x402' THEN 'x402_' || {row}.status ELSE {row}.status END"
)
_NEW_STATUS: Final = _COUNTED_AS.format(row="new")
_OLD_STATUS: Final = _COUNTED_AS.format(row="old")
_NEW_PROMISE: Final = _PROMISE.format(row="new")
_OLD_PROMISE: Final = _PROMISE.format(row="old")
# Views and triggers by dialect; migrations carry copies, which a test compares.
VIEWS_AND_TRIGGERS: Final = {
    "sqlite": (
        """
        CREATE VIEW hold_charges AS
        SELECT h.id AS hold_id, c.scope_kind, c.scope_id, c."window", c.start
        FROM holds h, json_each(h.charges) e JOIN counters c ON c.id = e.value
        """,
        f"""
        CREATE TRIGGER purchase_made AFTER INSERT ON purchases BEGIN
            INSERT INTO purchase_totals (status, count, amount)
            VALUES ({_NEW_STATUS}, 1, {_NEW_PROMISE})
            ON CONFLICT (status) DO UPDATE
            SET count = count + 1, amount = amount + excluded.amount;
        END
        """,
        f"""
        CREATE TRIGGER purchase_moved AFTER UPDATE OF status ON purchases
        WHEN old.status <> new.status BEGIN
            UPDATE purchase_totals SET count = count - 1, amount = amount - {_OLD_PROMISE}
            WHERE status = {_OLD_STATUS};
            INSERT INTO purchase_totals (status, count, amount)
            VALUES ({_NEW_STATUS}, 1, {_NEW_PROMISE})
            ON CONFLICT (status) DO UPDATE
            SET count = count + 1, amount = amount + excluded.amount;
        END
        """,
    ),
    "postgresql": (
        """
        CREATE VIEW hold_charges AS
        SELECT h.id AS hold_id, c.scope_kind, c.scope_id, c."window", c.start
        FROM holds h CROSS JOIN LATERAL json_array_elements_text(h.charges::json) e (id)
        JOIN counters c ON c.id = e.id::bigint
        """,
        f"""
        CREATE FUNCTION count_purchase() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF TG_OP = 'UPDATE' THEN
                IF old.status = new.status THEN RETURN NULL; END IF;
                UPDATE purchase_totals SET count = count - 1, amount = amount - {_OLD_PROMISE}
                WHERE status = {_OLD_STATUS};
            END IF;
            INSERT INTO purchase_totals AS p (status, count, amount)
            VALUES ({_NEW_STATUS}, 1, {_NEW_PROMISE})
            ON CONFLICT (status) DO UPDATE
            SET count = p.count + 1, amount = p.amount + excluded.amount;
            RETURN NULL;
        END $$
        """,
        """
        CREATE TRIGGER purchase_counted AFTER INSERT OR UPDATE OF status ON purchases
        FOR EACH ROW EXECUTE FUNCTION count_purchase()
        """,
    ),
}
for _dialect, _statements in VIEWS_AND_TRIGGERS.items():
    for _statement in _statements:
        made = DDL(_statement.replace("%", "%%")).execute_if(_dialect)  # type: ignore[no-untyped-call]
        event.listen(metadata, "after_create", made)
