"""Counters with ids, holds that name them, costs, tasks and sessions, overlays, notices"""

import json

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_TOTALS = (
    ("task", "p.task", "p.task IS NOT NULL"),
    ("session", "p.session", "p.session IS NOT NULL"),
    ("provider", "p.provider_name", "p.provider_name IS NOT NULL"),
    ("agent_category", "p.agent || '/' || p.category", "p.category IS NOT NULL"),
    (
        "task_category",
        "p.task || '/' || p.category",
        "p.task IS NOT NULL AND p.category IS NOT NULL",
    ),
)

_VIEWS_AND_TRIGGERS = {
    "sqlite": (
        """
        CREATE VIEW hold_charges AS
        SELECT h.id AS hold_id, c.scope_kind, c.scope_id, c."window", c.start
        FROM holds h, json_each(h.charges) e JOIN counters c ON c.id = e.value
        """,
        """
        CREATE TRIGGER purchase_made AFTER INSERT ON purchases BEGIN
            INSERT INTO purchase_totals (status, count, amount) VALUES (new.status, 1, new.amount)
            ON CONFLICT (status) DO UPDATE
            SET count = count + 1, amount = amount + excluded.amount;
        END
        """,
        """
        CREATE TRIGGER purchase_moved AFTER UPDATE OF status ON purchases
        WHEN old.status <> new.status BEGIN
            UPDATE purchase_totals SET count = count - 1, amount = amount - old.amount
            WHERE status = old.status;
            INSERT INTO purchase_totals (status, count, amount) VALUES (new.status, 1, new.amount)
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
        """
        CREATE FUNCTION count_purchase() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF TG_OP = 'UPDATE' THEN
                IF old.status = new.status THEN RETURN NULL; END IF;
                UPDATE purchase_totals SET count = count - 1, amount = amount - old.amount
                WHERE status = old.status;
            END IF;
            INSERT INTO purchase_totals AS p (status, count, amount)
            VALUES (new.status, 1, new.amount)
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
    for table in ("hold_charges", "holds", "counters"):
        op.execute(f"CREATE TABLE old_{table} AS SELECT * FROM {table}")
    for table in ("hold_charges", "holds", "counters"):
        op.drop_table(table)
    _create_tables()
    _fill()
    for table in ("hold_charges", "holds", "counters"):
        op.drop_table(f"old_{table}")
    for statement in _VIEWS_AND_TRIGGERS[op.get_bind().dialect.name]:
        op.execute(statement)
    op.execute(
        "INSERT INTO purchase_totals (status, count, amount)"
        " SELECT status, count(*), sum(amount) FROM purchases GROUP BY status"
    )


def _fill() -> None:
    for kind, name, given in _TOTALS:
        op.execute(
            f"""INSERT INTO old_hold_charges (hold_id, scope_kind, scope_id, "window", start)
            SELECT h.id, '{kind}', {name}, 'total', 0 FROM old_holds h
            JOIN purchases p ON p.id = h.purchase_id
            WHERE h.kind = 'purchase' AND p.agent IS NOT NULL AND {given}"""
        )
    _charge_pools()
    op.execute(
        """INSERT INTO counters (scope_kind, scope_id, "window", start, held, spent)
        SELECT scope_kind, scope_id, "window", start, held, spent FROM old_counters"""
    )
    kinds = ", ".join(f"'{kind}'" for kind in ("pool", *(kind for kind, _, _ in _TOTALS)))
    op.execute(
        f"""INSERT INTO counters (scope_kind, scope_id, "window", start, held, spent)
        SELECT c.scope_kind, c.scope_id, c."window", c.start,
            sum(CASE WHEN h.status = 'held' THEN h.amount ELSE 0 END), sum(h.posted)
        FROM old_hold_charges c JOIN old_holds h ON h.id = c.hold_id
        WHERE c.scope_kind IN ({kinds}) GROUP BY 1, 2, 3, 4"""
    )
    postgresql = op.get_bind().dialect.name == "postgresql"
    joined = "string_agg(c.id::text, ',')" if postgresql else "group_concat(c.id, ',')"
    op.execute(
        f"""INSERT INTO holds (id, kind, purchase_id, amount, status, posted, placed_at, ended_at,
            charges)
        SELECT h.id, h.kind, h.purchase_id, h.amount, h.status, h.posted, h.placed_at, h.ended_at,
            '[' || coalesce((SELECT {joined} FROM old_hold_charges o
                JOIN counters c ON c.scope_kind = o.scope_kind AND c.scope_id = o.scope_id
                    AND c."window" = o."window" AND c.start = o.start
                WHERE o.hold_id = h.id), '') || ']'
        FROM old_holds h"""
    )
    if postgresql:
        op.execute(
            "SELECT setval(pg_get_serial_sequence('holds', 'id'),"
            " (SELECT coalesce(max(id), 0) + 1 FROM holds), false)"
        )


def _charge_pools() -> None:
    """Charge what the members of the newest policy's pools hold and spent to the pools' totals."""
    connection = op.get_bind()
    newest = "SELECT document FROM policies ORDER BY version DESC LIMIT 1"
    document = connection.execute(sa.text(newest)).scalar()
    charge = sa.text(
        """INSERT INTO old_hold_charges (hold_id, scope_kind, scope_id, "window", start)
        SELECT h.id, 'pool', :pool, 'total', 0 FROM old_holds h
        JOIN purchases p ON p.id = h.purchase_id WHERE h.kind = 'purchase' AND p.agent = :agent"""
    )
    for pool, table in json.loads(document or "{}").get("pools", {}).items():
        for agent in dict.fromkeys(table["agents"]):
            connection.execute(charge, {"pool": pool, "agent": agent})


def _create_tables() -> None:
    op.create_index("purchases_task", "purchases", ["task"])
    op.create_index("purchases_session", "purchases", ["session"])
    id_ = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "counters",
        sa.Column("id", id_, autoincrement=True, nullable=False),
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
        "costs",
        sa.Column("seq", id_, autoincrement=True, nullable=False),
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
        "holds",
        sa.Column("id", id_, autoincrement=True, nullable=False),
        sa.Column("kind", sa.String(length=10), nullable=False),
        sa.Column("purchase_id", sa.String(length=40), nullable=True),
        sa.Column("cost_id", sa.String(length=40), nullable=True),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.String(length=10), nullable=False),
        sa.Column("posted", sa.BigInteger(), nullable=False),
        sa.Column("placed_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("charges", sa.Text(), nullable=False),
        sa.CheckConstraint("kind IN ('purchase', 'bond', 'off_chain')", name="kind_known"),
        sa.CheckConstraint("status IN ('held', 'posted', 'voided')", name="status_known"),
        sa.CheckConstraint("(purchase_id IS NULL) <> (cost_id IS NULL)", name="hold_of_one"),
        sa.ForeignKeyConstraint(["purchase_id"], ["purchases.id"]),
        sa.ForeignKeyConstraint(["cost_id"], ["costs.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("purchase_id", "kind"),
        sa.UniqueConstraint("cost_id"),
    )
    op.create_index("holds_status", "holds", ["status"])
    op.create_index("holds_placed", "holds", ["placed_at"])
    op.create_table(
        "purchase_totals",
        sa.Column("status", sa.String(length=20), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("status"),
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
        sa.CheckConstraint("kind IN ('task', 'session')", name="kind_known"),
        sa.CheckConstraint("status IN ('open', 'closed')", name="status_known"),
        sa.PrimaryKeyConstraint("kind", "id"),
    )
    op.create_table(
        "overlays",
        sa.Column("seq", id_, autoincrement=True, nullable=False),
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
            "kind IN ('grant', 'allocation', 'disabled', 'enabled', 'withdrawn')",
            name="kind_known",
        ),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("id"),
    )
    op.create_table(
        "increases",
        sa.Column("seq", id_, autoincrement=True, nullable=False),
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
        "notices",
        sa.Column("seq", id_, autoincrement=True, nullable=False),
        sa.Column("key", sa.String(length=500), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(length=40), nullable=False),
        sa.Column("severity", sa.String(length=10), nullable=False),
        sa.Column("subject", sa.String(length=300), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
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
