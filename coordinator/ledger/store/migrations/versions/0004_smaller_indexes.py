"""Indexes without the rows that nobody looks for by them"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_OF_THE_SET = {
    "purchases_ended": "ended_at_block",
    "purchases_task": "task",
    "purchases_session": "session",
}


def upgrade() -> None:
    op.drop_index("purchases_status", "purchases")
    op.create_index("purchases_status", "purchases", ["status"])
    for name, column in _OF_THE_SET.items():
        there = sa.text(f"{column} IS NOT NULL")
        op.drop_index(name, "purchases")
        op.create_index(name, "purchases", [column], sqlite_where=there, postgresql_where=there)
