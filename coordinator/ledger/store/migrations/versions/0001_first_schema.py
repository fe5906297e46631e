"""The first schema"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
# Of what is no promise any more only the number counts: sums of it grow without bound.
_PROMISE = (
    "CASE WHEN {row}.status IN ('awaiting_approval', 'approved', 'created')"
    " THEN {row}.amount ELSE 0 END"
)
_COUNTED_AS = "CASE WHEN {row}.settle = 'x402' THEN 'x402_' || {row}.status ELSE {row}.status END"
_NEW_STATUS = _COUNTED_AS.format(row="new")
_OLD_STATUS = _COUNTED_AS.format(row="old")
_NEW_PROMISE = _PROMISE.format(row="new")
_OLD_PROMISE = _PROMISE.format(row="old")
_VIEWS_AND_TRIGGERS = {
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


def upgrade() -> None:
    op.create_table(
        "audit",
        sa.Column("seq", _ID, autoincrement=False, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("event", sa.String(length=40), nullable=False),
        sa.Column("subject", sa.String(length=100), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("host", sa.String(length=80), nullable=False),
        sa.Column("signature", sa.String(length=128), nullable=False),
        sa.PrimaryKeyConstraint("seq"),
    )
    op.create_index(
        "audit_policies",
        "audit",
        ["seq"],
        sqlite_where=sa.text("event = 'policy_activated'"),
        postgresql_where=sa.text("event = 'policy_activated'"),
    )
    op.create_index("audit_subject", "audit", ["subject"])
    op.create_table(
        "costs",
        sa.Column("seq", _ID, autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("agent", sa.String(length=64), nullable=False),
        sa.Column("category", sa.String(length=64), nullable=True),
        sa.Column("provider", sa.String(length=64), nullable=True),
        sa.Column("task", sa.String(length=200), nullable=True),
        sa.Column("session", sa.String(length=200), nullable=True),
        sa.Column("purpose", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("id"),
    )
    op.create_index("costs_agent", "costs", ["agent", "seq"])
    op.create_index("costs_expiry", "costs", ["expires_at"])
    op.create_index("costs_session", "costs", ["session"])
    op.create_index("costs_task", "costs", ["task"])
    op.create_table(
        "counters",
        sa.Column("id", _ID, autoincrement=True, nullable=False),
        sa.Column("scope_kind", sa.String(length=20), nullable=False),
        sa.Column("scope_id", sa.String(length=300), nullable=False),
        sa.Column("window", sa.String(length=20), nullable=False),
        sa.Column("start", sa.BigInteger(), nullable=False),
        sa.Column("held", sa.BigInteger(), nullable=False),
        sa.Column("spent", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("held >= 0", name="held_not_negative"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("scope_kind", "scope_id", "window", "start"),
    )
    op.create_table(
        "cursors",
        sa.Column("name", sa.String(length=20), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.String(length=66), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "escrow_events",
        sa.Column("block_hash", sa.String(length=66), nullable=False),
        sa.Column("log_index", sa.Integer(), nullable=False),
        sa.Column("block_number", sa.BigInteger(), nullable=False),
        sa.Column("tx_hash", sa.String(length=66), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("escrow_id", sa.String(length=66), nullable=False),
        sa.Column("escrow_key", sa.String(length=66), nullable=True),
        sa.Column("requester", sa.String(length=42), nullable=True),
        sa.Column("provider", sa.String(length=42), nullable=True),
        sa.Column("amount", sa.BigInteger(), nullable=True),
        sa.Column("service_hash", sa.String(length=66), nullable=True),
        sa.Column("deadline", sa.BigInteger(), nullable=True),
        sa.Column("state", sa.String(length=12), nullable=True),
        sa.Column("window_ends", sa.BigInteger(), nullable=True),
        sa.CheckConstraint(
            "kind IN ('escrow_created', 'escrow_funded', 'escrow_moved', 'authorisation_used')",
            name="kind_known",
        ),
        sa.PrimaryKeyConstraint("block_hash", "log_index"),
    )
    op.create_index("escrow_events_block", "escrow_events", ["block_number"])
    op.create_index(
        "escrow_events_escrow", "escrow_events", ["escrow_id", "block_number", "log_index"]
    )
    op.create_index(
        "escrow_events_disputed",
        "escrow_events",
        ["escrow_id"],
        sqlite_where=sa.text("state = 'disputed'"),
        postgresql_where=sa.text("state = 'disputed'"),
    )
    op.create_index("escrow_events_key", "escrow_events", ["escrow_key"])
    op.create_table(
        "safe_events",
        sa.Column("block_hash", sa.String(length=66), nullable=False),
        sa.Column("log_index", sa.Integer(), nullable=False),
        sa.Column("block_number", sa.BigInteger(), nullable=False),
        sa.Column("tx_hash", sa.String(length=66), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("name", sa.String(length=40), nullable=False),
        sa.Column("said", sa.Text(), nullable=False),
        sa.Column("told", sa.Integer(), nullable=False),
        sa.Column("lost", sa.Integer(), nullable=False),
        sa.CheckConstraint(
            "kind IN ('role_used', 'treasury_changed', 'approval_left')", name="kind_known"
        ),
        sa.PrimaryKeyConstraint("block_hash", "log_index"),
    )
    op.create_index("safe_events_block", "safe_events", ["block_number"])
    op.create_table(
        "explanations",
        sa.Column("discrepancy_id", sa.String(length=40), nullable=False),
        sa.Column("by", sa.String(length=64), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("discrepancy_id"),
    )
    op.create_table(
        "hosts",
        sa.Column("id", sa.String(length=80), nullable=False),
        sa.Column("name", sa.String(length=60), nullable=False),
        sa.Column("public_key", sa.String(length=64), nullable=False),
        sa.Column("role", sa.String(length=10), nullable=False),
        sa.Column("after_row", sa.BigInteger(), nullable=False),
        sa.Column("certified_at", sa.BigInteger(), nullable=False),
        sa.Column("certificate", sa.String(length=132), nullable=False),
        sa.Column("last_row", sa.BigInteger(), nullable=True),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.Column("revocation", sa.String(length=132), nullable=True),
        sa.CheckConstraint("role IN ('worker', 'decider')", name="role_known"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("public_key"),
    )
    op.create_table(
        "seals",
        sa.Column("count", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("public_key", sa.String(length=64), nullable=False),
        sa.Column("signature", sa.String(length=128), nullable=False),
        sa.PrimaryKeyConstraint("count"),
    )
    op.create_table(
        "step_seals",
        sa.Column("step_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("mac", sa.String(length=220), nullable=False),
        sa.PrimaryKeyConstraint("step_id"),
    )
    op.create_table(
        "identity",
        sa.Column("chain_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("genesis", sa.String(length=66), nullable=False),
        sa.Column("kernel", sa.String(length=42), nullable=False),
        sa.Column("vault", sa.String(length=42), nullable=False),
        sa.Column("usdc", sa.String(length=42), nullable=False),
        sa.Column("treasury", sa.String(length=42), nullable=False),
        sa.Column("signer", sa.String(length=42), nullable=False),
        sa.Column("secret_mark", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("chain_id"),
    )
    op.create_table(
        "increases",
        sa.Column("seq", _ID, autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("kind", sa.String(length=10), nullable=False),
        sa.Column("agent", sa.String(length=64), nullable=False),
        sa.Column("scope_kind", sa.String(length=20), nullable=False),
        sa.Column("scope_id", sa.String(length=300), nullable=False),
        sa.Column("window", sa.String(length=20), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("lasts_seconds", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("status", sa.String(length=10), nullable=False),
        sa.Column("required", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("overlay_id", sa.String(length=40), nullable=True),
        sa.CheckConstraint("kind IN ('increase', 'emergency')", name="kind_known"),
        sa.CheckConstraint(
            "status IN ('waiting', 'granted', 'rejected', 'expired')", name="status_known"
        ),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("id"),
    )
    op.create_index("increases_status", "increases", ["status"])
    op.create_index(
        "increases_waiting",
        "increases",
        ["agent"],
        sqlite_where=sa.text("status = 'waiting'"),
        postgresql_where=sa.text("status = 'waiting'"),
    )
    op.create_table(
        "journal",
        sa.Column("block_hash", sa.String(length=66), nullable=False),
        sa.Column("log_index", sa.Integer(), nullable=False),
        sa.Column("block_number", sa.BigInteger(), nullable=False),
        sa.Column("tx_hash", sa.String(length=66), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(length=12), nullable=False),
        sa.Column("debit", sa.String(length=80), nullable=False),
        sa.Column("credit", sa.String(length=80), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("escrow_key", sa.String(length=66), nullable=True),
        sa.CheckConstraint(
            "kind IN ('opening', 'closing', 'internal', 'deposit', 'outflow', 'fund', 'payout', 'fee', 'penalty', 'refund', 'bond', 'bond_return', 'bond_loss', 'x402')",
            name="kind_known",
        ),
        sa.CheckConstraint("amount >= 0", name="amount_not_negative"),
        sa.PrimaryKeyConstraint("block_hash", "log_index"),
    )
    op.create_index("journal_block", "journal", ["block_number", "log_index"])
    op.create_index("journal_escrow", "journal", ["escrow_key"])
    op.create_index("journal_kind", "journal", ["kind", "at"])
    op.create_table(
        "leases",
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("holder", sa.String(length=100), nullable=False),
        sa.Column("host", sa.String(length=300), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("token", sa.BigInteger(), nullable=False),
        sa.Column("expires_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("seconds", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "notices",
        sa.Column("seq", _ID, autoincrement=True, nullable=False),
        sa.Column("key", sa.String(length=500), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(length=40), nullable=False),
        sa.Column("severity", sa.String(length=10), nullable=False),
        sa.Column("subject", sa.String(length=300), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("fields", sa.Text(), server_default="{}", nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=True),
        sa.Column("delivered_at", sa.BigInteger(), nullable=True),
        sa.Column("fault", sa.Text(), nullable=True),
        sa.CheckConstraint("severity IN ('info', 'warning', 'critical')", name="severity_known"),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("key"),
    )
    op.create_index("notices_due", "notices", ["due_at"])
    op.create_index("notices_kind", "notices", ["kind", "at"])
    op.create_table(
        "observations",
        sa.Column("treasury", sa.String(length=42), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("block_number", sa.BigInteger(), nullable=False),
        sa.Column("usdc_balance", sa.BigInteger(), nullable=False),
        sa.Column("usdc_allowance", sa.BigInteger(), nullable=False),
        sa.Column("gas_balance_wei", sa.String(length=40), nullable=False),
        sa.Column("max_fee_per_gas", sa.BigInteger(), nullable=False),
        sa.Column("call_gas", sa.BigInteger(), nullable=False),
        sa.Column("making_gas", sa.BigInteger(), nullable=False),
        sa.Column("l1_fee_upper_bound_wei", sa.BigInteger(), nullable=False),
        sa.Column("note", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("treasury"),
    )
    op.create_table(
        "openings",
        sa.Column("kind", sa.String(length=10), nullable=False),
        sa.Column("id", sa.String(length=200), nullable=False),
        sa.Column("agent", sa.String(length=64), nullable=True),
        sa.Column("limits", sa.Text(), nullable=False),
        sa.Column("status", sa.String(length=10), nullable=False),
        sa.Column("opened_by", sa.String(length=64), nullable=False),
        sa.Column("opened_at", sa.BigInteger(), nullable=False),
        sa.Column("closed_by", sa.String(length=64), nullable=True),
        sa.Column("closed_at", sa.BigInteger(), nullable=True),
        sa.Column("by_agent", sa.Integer(), server_default="0", nullable=False),
        sa.CheckConstraint("kind IN ('task', 'session')", name="kind_known"),
        sa.CheckConstraint("status IN ('open', 'closed')", name="status_known"),
        sa.PrimaryKeyConstraint("kind", "id"),
    )
    op.create_table(
        "orders",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("kind", sa.String(length=10), nullable=False),
        sa.Column("recipient", sa.String(length=42), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("by", sa.String(length=64), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("status", sa.String(length=10), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("message", sa.Text(), nullable=True),
        sa.CheckConstraint("kind IN ('withdraw', 'mint', 'top_up')", name="kind_known"),
        sa.CheckConstraint("status IN ('approved', 'done', 'failed')", name="status_known"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("orders_status", "orders", ["status"])
    op.create_table(
        "overlays",
        sa.Column("seq", _ID, autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("kind", sa.String(length=12), nullable=False),
        sa.Column("scope_kind", sa.String(length=20), nullable=True),
        sa.Column("scope_id", sa.String(length=300), nullable=True),
        sa.Column("window", sa.String(length=20), nullable=True),
        sa.Column("amount", sa.BigInteger(), nullable=True),
        sa.Column("starts_at", sa.BigInteger(), nullable=False),
        sa.Column("ends_at", sa.BigInteger(), nullable=True),
        sa.Column("increase_id", sa.String(length=40), nullable=True),
        sa.Column("withdrawn", sa.String(length=40), nullable=True),
        sa.Column("author", sa.String(length=200), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.CheckConstraint(
            "kind IN ('grant', 'allocation', 'disabled', 'enabled', 'withdrawn')", name="kind_known"
        ),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("id"),
    )
    op.create_table(
        "pauses",
        sa.Column("scope_kind", sa.String(length=20), nullable=False),
        sa.Column("scope_id", sa.String(length=64), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("by", sa.String(length=200), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("scope_kind", "scope_id"),
    )
    op.create_table(
        "policies",
        sa.Column("version", _ID, autoincrement=True, nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("author", sa.String(length=200), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("activated_at", sa.BigInteger(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("version"),
    )
    op.create_table(
        "proposals",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("kind", sa.String(length=10), nullable=False),
        sa.Column("terms", sa.Text(), nullable=False),
        sa.Column("status", sa.String(length=20), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "kind IN ('withdraw', 'settle', 'unpause', 'policy')", name="kind_known"
        ),
        sa.CheckConstraint(
            "status IN ('awaiting_approval', 'approved', 'rejected', 'expired')",
            name="status_known",
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("proposals_status", "proposals", ["status"])
    op.create_table(
        "purchase_totals",
        sa.Column("status", sa.String(length=30), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("status"),
    )
    op.create_table(
        "purchases",
        sa.Column("seq", _ID, autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("status", sa.String(length=20), nullable=False),
        sa.Column("agent", sa.String(length=64), nullable=True),
        sa.Column("idempotency_key", sa.String(length=200), nullable=True),
        sa.Column("terms_hash", sa.String(length=64), nullable=True),
        sa.Column("provider", sa.String(length=64), nullable=False),
        sa.Column("provider_name", sa.String(length=64), nullable=True),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("service", sa.String(length=200), nullable=True),
        sa.Column("category", sa.String(length=64), nullable=True),
        sa.Column("task", sa.String(length=200), nullable=True),
        sa.Column("session", sa.String(length=200), nullable=True),
        sa.Column("escrow_key", sa.String(length=66), nullable=False),
        sa.Column("settle", sa.String(length=20), nullable=False),
        sa.Column("policy_hash", sa.String(length=64), nullable=False),
        sa.Column("decision", sa.Text(), nullable=False),
        sa.Column("reason_code", sa.String(length=40), nullable=True),
        sa.Column("reason_message", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("approved_at", sa.BigInteger(), nullable=True),
        sa.Column("ended_at_block", sa.BigInteger(), nullable=True),
        sa.Column("cancel_wanted", sa.Integer(), nullable=False),
        sa.Column("settle_wanted", sa.Integer(), nullable=False),
        sa.Column("stranded", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "status IN ('denied', 'awaiting_approval', 'rejected', 'expired', 'approved', 'created', 'funded', 'started', 'delivered', 'disputed', 'settled', 'cancelled', 'failed')",
            name="status_known",
        ),
        sa.CheckConstraint("amount > 0", name="amount_positive"),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("id"),
    )
    op.create_index("purchases_agent", "purchases", ["agent", "seq"])
    op.create_index(
        "purchases_ended",
        "purchases",
        ["ended_at_block"],
        sqlite_where=sa.text("ended_at_block IS NOT NULL"),
        postgresql_where=sa.text("ended_at_block IS NOT NULL"),
    )
    op.create_index("purchases_escrow_key", "purchases", ["escrow_key"])
    op.create_index(
        "purchases_session",
        "purchases",
        ["session"],
        sqlite_where=sa.text("session IS NOT NULL"),
        postgresql_where=sa.text("session IS NOT NULL"),
    )
    op.create_index("purchases_status", "purchases", ["status"])
    op.create_index(
        "purchases_waiting",
        "purchases",
        ["agent"],
        sqlite_where=sa.text("status = 'awaiting_approval'"),
        postgresql_where=sa.text("status = 'awaiting_approval'"),
    )
    op.create_index(
        "purchases_task",
        "purchases",
        ["task"],
        sqlite_where=sa.text("task IS NOT NULL"),
        postgresql_where=sa.text("task IS NOT NULL"),
    )
    op.create_table(
        "rescans",
        sa.Column("from_block", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("reached", sa.BigInteger(), nullable=False),
        sa.Column("events", sa.BigInteger(), nullable=False),
        sa.Column("found", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("from_block"),
    )
    op.create_table(
        "comparisons",
        sa.Column("page", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("mac", sa.String(length=220), nullable=False),
        sa.PrimaryKeyConstraint("page"),
    )
    op.create_table(
        "last_reconciliation",
        sa.Column("block_number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("discrepancies", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("block_number"),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(length=24), nullable=False),
        sa.Column("role", sa.String(length=10), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("created_by", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.Column("revoked_by", sa.String(length=64), nullable=True),
        sa.Column("replaced_by", sa.String(length=24), nullable=True),
        sa.Column("last_used_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "webhooks",
        sa.Column("id", sa.String(length=24), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("types", sa.Text(), nullable=False),
        sa.Column("agent", sa.String(length=64), nullable=True),
        sa.Column("created_by", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("previous_until", sa.BigInteger(), nullable=True),
        sa.Column("disabled_at", sa.BigInteger(), nullable=True),
        sa.Column("disabled_why", sa.Text(), nullable=True),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("replays", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("failing_since", sa.BigInteger(), nullable=True),
        sa.Column("retry_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "webhook_deliveries",
        sa.Column("webhook_id", sa.String(length=24), nullable=False),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("failed_at", sa.BigInteger(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=True),
        sa.Column("delivered_at", sa.BigInteger(), nullable=True),
        sa.Column("fault", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["webhook_id"], ["webhooks.id"]),
        sa.PrimaryKeyConstraint("webhook_id", "seq"),
    )
    op.create_index("webhook_deliveries_due", "webhook_deliveries", ["webhook_id", "due_at"])
    op.create_table(
        "approvals",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("purchase_id", sa.String(length=40), nullable=False),
        sa.Column("required", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["purchase_id"], ["purchases.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("purchase_id"),
    )
    op.create_table(
        "escrows",
        sa.Column("seq", _ID, autoincrement=True, nullable=False),
        sa.Column("escrow_id", sa.String(length=66), nullable=False),
        sa.Column("escrow_key", sa.String(length=66), nullable=True),
        sa.Column("purchase_id", sa.String(length=40), nullable=True),
        sa.Column("requester", sa.String(length=42), nullable=True),
        sa.Column("provider", sa.String(length=42), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("service_hash", sa.String(length=66), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("deadline", sa.BigInteger(), nullable=False),
        sa.Column("window_ends", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("last_block", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "state IN ('created', 'quoted', 'funded', 'started', 'delivered', 'disputed', 'settled', 'cancelled')",
            name="state_known",
        ),
        sa.ForeignKeyConstraint(["purchase_id"], ["purchases.id"]),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("escrow_id"),
    )
    op.create_index("escrows_key", "escrows", ["escrow_key"])
    op.create_index("escrows_purchase", "escrows", ["purchase_id"])
    op.create_index(
        "escrows_settled",
        "escrows",
        ["provider", "state"],
        sqlite_where=sa.text("state = 'settled'"),
        postgresql_where=sa.text("state = 'settled'"),
    )
    op.create_index("escrows_state", "escrows", ["state"])
    op.create_table(
        "holds",
        sa.Column("id", _ID, autoincrement=True, nullable=False),
        sa.Column("kind", sa.String(length=10), nullable=False),
        sa.Column("purchase_id", sa.String(length=40), nullable=True),
        sa.Column("cost_id", sa.String(length=40), nullable=True),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.String(length=10), nullable=False),
        sa.Column("posted", sa.BigInteger(), nullable=False),
        sa.Column("placed_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("charges", sa.Text(), nullable=False),
        sa.Column("by_owner", sa.Integer(), server_default="1", nullable=False),
        sa.CheckConstraint("kind IN ('purchase', 'bond', 'off_chain')", name="kind_known"),
        sa.CheckConstraint("status IN ('held', 'posted', 'voided')", name="status_known"),
        sa.CheckConstraint("(purchase_id IS NULL) <> (cost_id IS NULL)", name="hold_of_one"),
        sa.ForeignKeyConstraint(["cost_id"], ["costs.id"]),
        sa.ForeignKeyConstraint(["purchase_id"], ["purchases.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("purchase_id", "kind"),
    )
    op.create_index(
        "holds_cost",
        "holds",
        ["cost_id"],
        unique=True,
        sqlite_where=sa.text("cost_id IS NOT NULL"),
        postgresql_where=sa.text("cost_id IS NOT NULL"),
    )
    op.create_index("holds_status", "holds", ["status"])
    op.create_table(
        "authorisations",
        sa.Column("purchase_id", sa.String(length=40), nullable=False),
        sa.Column("wallet", sa.String(length=42), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("offer", sa.Text(), nullable=False),
        sa.Column("valid_before", sa.BigInteger(), nullable=True),
        sa.Column("signature", sa.Text(), nullable=True),
        sa.Column("signed_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["purchase_id"], ["purchases.id"]),
        sa.PrimaryKeyConstraint("purchase_id"),
    )
    op.create_index(
        "authorisations_unsigned",
        "authorisations",
        ["purchase_id"],
        sqlite_where=sa.text("signature IS NULL"),
        postgresql_where=sa.text("signature IS NULL"),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("agent", sa.String(length=64), nullable=False),
        sa.Column("idempotency_key", sa.String(length=200), nullable=False),
        sa.Column("purchase_id", sa.String(length=40), nullable=False),
        sa.Column("terms_hash", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["purchase_id"], ["purchases.id"]),
        sa.PrimaryKeyConstraint("agent", "idempotency_key"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "increase_decisions",
        sa.Column("increase_id", sa.String(length=40), nullable=False),
        sa.Column("approver", sa.String(length=64), nullable=False),
        sa.Column("decision", sa.String(length=10), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("decision IN ('approved', 'rejected')", name="decision_known"),
        sa.ForeignKeyConstraint(["increase_id"], ["increases.id"]),
        sa.PrimaryKeyConstraint("increase_id", "approver"),
    )
    op.create_table(
        "steps",
        sa.Column("id", _ID, autoincrement=True, nullable=False),
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("signer", sa.String(length=42), nullable=False),
        sa.Column("nonce", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.Integer(), server_default="0", nullable=False),
        sa.Column("batch_id", _ID, nullable=True),
        sa.Column("kind", sa.String(length=10), nullable=False),
        sa.Column("status", sa.String(length=10), nullable=False),
        sa.Column("purchase_id", sa.String(length=40), nullable=True),
        sa.Column("escrow_id", sa.String(length=66), nullable=True),
        sa.Column("recipient", sa.String(length=42), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.Column("gas_limit", sa.BigInteger(), nullable=False),
        sa.Column("usdc", sa.BigInteger(), nullable=True),
        sa.Column("reference", sa.String(length=40), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("revert_reason", sa.Text(), nullable=True),
        sa.Column("mac", sa.String(length=220), nullable=False),
        sa.Column("given_up", sa.Integer(), server_default="0", nullable=False),
        sa.CheckConstraint(
            "kind IN ('approve', 'create', 'link', 'cancel', 'settle', 'reclaim', 'dispute', 'withdraw', 'mint', 'sweep', 'top_up', 'batch', 'fill')",
            name="kind_known",
        ),
        sa.CheckConstraint(
            "status IN ('allocated', 'signed', 'mined', 'reverted', 'displaced')",
            name="status_known",
        ),
        sa.ForeignKeyConstraint(["batch_id"], ["steps.id"]),
        sa.ForeignKeyConstraint(["purchase_id"], ["purchases.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("chain_id", "signer", "nonce", "position"),
    )
    op.create_index("steps_batch", "steps", ["batch_id"])
    op.create_index("steps_purchase", "steps", ["purchase_id"])
    op.create_index("steps_reference", "steps", ["reference"])
    op.create_index("steps_status", "steps", ["status"])
    op.create_table(
        "approval_decisions",
        sa.Column("approval_id", sa.String(length=40), nullable=False),
        sa.Column("approver", sa.String(length=64), nullable=False),
        sa.Column("decision", sa.String(length=10), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("host", sa.String(length=200), nullable=False),
        sa.Column("user", sa.String(length=200), nullable=False),
        sa.CheckConstraint("decision IN ('approved', 'rejected')", name="decision_known"),
        sa.ForeignKeyConstraint(["approval_id"], ["approvals.id"]),
        sa.PrimaryKeyConstraint("approval_id", "approver"),
    )
    op.create_table(
        "attempts",
        sa.Column("hash", sa.String(length=66), nullable=False),
        sa.Column("step_id", _ID, nullable=False),
        sa.Column("raw", sa.Text(), nullable=False),
        sa.Column("max_fee_per_gas", sa.BigInteger(), nullable=False),
        sa.Column("max_priority_fee_per_gas", sa.BigInteger(), nullable=False),
        sa.Column("signed_at", sa.BigInteger(), nullable=False),
        sa.Column("block_number", sa.BigInteger(), nullable=True),
        sa.Column("block_hash", sa.String(length=66), nullable=True),
        sa.Column("succeeded", sa.Integer(), nullable=True),
        sa.Column("gas_used", sa.BigInteger(), nullable=True),
        sa.Column("effective_gas_price", sa.BigInteger(), nullable=True),
        sa.Column("l1_fee_wei", sa.BigInteger(), nullable=True),
        sa.Column("fills", sa.Integer(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(["step_id"], ["steps.id"]),
        sa.PrimaryKeyConstraint("hash"),
    )
    op.create_index("attempts_block", "attempts", ["block_number"])
    op.create_index("attempts_step", "attempts", ["step_id"])
    for statement in _VIEWS_AND_TRIGGERS[op.get_bind().dialect.name]:
        op.execute(statement)
