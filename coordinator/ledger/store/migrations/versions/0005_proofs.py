"""Proofs of what may be signed"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# Of what is no promise any more only the number counts: sums of it grow without bound.
_PROMISE = (
    "CASE WHEN {row}.status IN ('awaiting_approval', 'approved', 'created')"
    " THEN {row}.amount ELSE 0 END"
)
_NEW_PROMISE = _PROMISE.format(row="new")
_OLD_PROMISE = _PROMISE.format(row="old")
_COUNTING = {
    "sqlite": (
        "DROP TRIGGER purchase_made",
        "DROP TRIGGER purchase_moved",
        f"""
        CREATE TRIGGER purchase_made AFTER INSERT ON purchases BEGIN
            INSERT INTO purchase_totals (status, count, amount)
            VALUES (new.status, 1, {_NEW_PROMISE})
            ON CONFLICT (status) DO UPDATE
            SET count = count + 1, amount = amount + excluded.amount;
        END
        """,
        f"""
        CREATE TRIGGER purchase_moved AFTER UPDATE OF status ON purchases
        WHEN old.status <> new.status BEGIN
            UPDATE purchase_totals SET count = count - 1, amount = amount - {_OLD_PROMISE}
            WHERE status = old.status;
            INSERT INTO purchase_totals (status, count, amount)
            VALUES (new.status, 1, {_NEW_PROMISE})
            ON CONFLICT (status) DO UPDATE
            SET count = count + 1, amount = amount + excluded.amount;
        END
        """,
    ),
    "postgresql": (
        f"""
        CREATE OR REPLACE FUNCTION count_purchase() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF TG_OP = 'UPDATE' THEN
                IF old.status = new.status THEN RETURN NULL; END IF;
                UPDATE purchase_totals SET count = count - 1, amount = amount - {_OLD_PROMISE}
                WHERE status = old.status;
            END IF;
            INSERT INTO purchase_totals AS p (status, count, amount)
            VALUES (new.status, 1, {_NEW_PROMISE})
            ON CONFLICT (status) DO UPDATE
            SET count = p.count + 1, amount = p.amount + excluded.amount;
            RETURN NULL;
        END $$
        """,
    ),
}


def upgrade() -> None:
    op.add_column("leases", sa.Column("seconds", sa.Integer(), nullable=True))
    op.add_column("steps", sa.Column("mac", sa.String(length=80), nullable=True))
    policies = sa.text("event = 'policy_activated'")
    op.create_index(
        "audit_policies", "audit", ["seq"], sqlite_where=policies, postgresql_where=policies
    )
    _proposals()
    _who_opened()
    _who_ended()
    _given_up()
    _notice_fields()
    _promises()


def _who_opened() -> None:
    """Tell what agents opened for themselves from what operators gave."""
    by_agent = sa.Column("by_agent", sa.Integer(), nullable=False, server_default="0")
    op.add_column("openings", by_agent)
    op.execute("UPDATE openings SET by_agent = 1 WHERE opened_by = agent")


def _who_ended() -> None:
    """Tell costs whose owners said what they came to; of earlier ones nobody asks again."""
    op.add_column("holds", sa.Column("by_owner", sa.Integer(), nullable=False, server_default="1"))


def _proposals() -> None:
    """Keep what one approver proposed and others have to approve too."""
    op.create_table(
        "proposals",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("kind", sa.String(length=10), nullable=False),
        sa.Column("terms", sa.Text(), nullable=False),
        sa.Column("status", sa.String(length=20), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("kind IN ('withdraw', 'settle', 'unpause')", name="kind_known"),
        sa.CheckConstraint(
            "status IN ('awaiting_approval', 'approved', 'rejected', 'expired')",
            name="status_known",
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("proposals_status", "proposals", ["status"])


def _given_up() -> None:
    """Tell steps whose bytes are sent no more, and the transactions that take their nonces."""
    for table, name in (("steps", "given_up"), ("attempts", "fills")):
        op.add_column(table, sa.Column(name, sa.Integer(), nullable=False, server_default="0"))


def _notice_fields() -> None:
    """Keep the ids and amounts of a notice for programs."""
    fields = sa.Column("fields", sa.Text(), nullable=False, server_default="{}")
    op.add_column("notices", fields)


def _promises() -> None:
    """Add up only the amounts of what may still be funded."""
    for statement in _COUNTING[op.get_bind().dialect.name]:
        op.execute(statement)
    op.execute(
        "UPDATE purchase_totals SET amount = 0"
        " WHERE status NOT IN ('awaiting_approval', 'approved', 'created')"
    )
