"""Proofs of what may be signed"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


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
