"""Escrow events that rows are folded from, and comparisons that go on where they stopped"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_FILLED = """
INSERT INTO escrow_events (block_hash, log_index, block_number, tx_hash, at, kind, escrow_id,
    escrow_key, provider, amount, service_hash, deadline, state, window_ends)
SELECT 'before 0002', {order} + 4 * seq, last_block, '', created_at, '{kind}', escrow_id,
    {key}, provider, amount, service_hash, deadline, {state}, window_ends
FROM escrows WHERE {where}
"""


def upgrade() -> None:
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
        sa.Column("provider", sa.String(length=42), nullable=True),
        sa.Column("amount", sa.BigInteger(), nullable=True),
        sa.Column("service_hash", sa.String(length=66), nullable=True),
        sa.Column("deadline", sa.BigInteger(), nullable=True),
        sa.Column("state", sa.String(length=12), nullable=True),
        sa.Column("window_ends", sa.BigInteger(), nullable=True),
        sa.CheckConstraint(
            "kind IN ('escrow_created', 'escrow_funded', 'escrow_moved')", name="kind_known"
        ),
        sa.PrimaryKeyConstraint("block_hash", "log_index"),
    )
    op.create_index(
        "escrow_events_escrow", "escrow_events", ["escrow_id", "block_number", "log_index"]
    )
    op.create_index("escrow_events_block", "escrow_events", ["block_number"])
    op.create_index("escrow_events_key", "escrow_events", ["escrow_key"])
    op.create_table(
        "rescans",
        sa.Column("from_block", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("reached", sa.BigInteger(), nullable=False),
        sa.Column("events", sa.BigInteger(), nullable=False),
        sa.Column("found", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("from_block"),
    )
    op.create_index("purchases_ended", "purchases", ["ended_at_block"])
    op.create_index("attempts_block", "attempts", ["block_number"])

    # What led to a row is not known any more; these three give the same row again.
    created = {"order": 0, "kind": "escrow_created", "key": "NULL", "state": "NULL"}
    funded = {"order": 1, "kind": "escrow_funded", "key": "escrow_key", "state": "NULL"}
    moved = {"order": 2, "kind": "escrow_moved", "key": "NULL", "state": "state"}
    op.execute(_FILLED.format(**created, where="1 = 1"))
    op.execute(_FILLED.format(**funded, where="escrow_key IS NOT NULL"))
    op.execute(_FILLED.format(**moved, where="state NOT IN ('created', 'funded')"))
    # Below this block nothing can be taken back: its events were not kept.
    op.execute(
        "INSERT INTO cursors (name, number, hash, at)"
        " SELECT 'final', number, hash, at FROM cursors WHERE name = 'books'"
    )
