"""Proofs of what may be signed"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("steps", sa.Column("mac", sa.String(length=80), nullable=True))
    policies = sa.text("event = 'policy_activated'")
    op.create_index(
        "audit_policies", "audit", ["seq"], sqlite_where=policies, postgresql_where=policies
    )
