"""Receipts and exports, each written to a new file."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coordinator.cli.output import heading, say, table
from coordinator.cli.purchase_card import show_purchase
from coordinator.domain.errors import InvalidRequest

if TYPE_CHECKING:
    from coordinator.domain.purchase.purchase import Purchase


def show_receipt(purchase: Purchase, receipt: dict[str, Any]) -> None:
    """Print the purchase, its rows of the audit log, and the log's head."""
    show_purchase(purchase, details=True)
    heading("Audit log")
    table(
        "row",
        "at",
        "event",
        rows=((row["seq"], row["at"], row["event"]) for row in receipt["audit"]),
        right=("row",),
    )
    say()
    say(f"treasury    {receipt['treasury']}")
    say(f"policy      {purchase.policy_hash}")
    say(f"audit head  {receipt['audit_head']}")


def write_new_json(path: Path, document: Any) -> None:
    """Write JSON to a file that does not exist yet; InvalidRequest otherwise."""
    write_new(path, [json.dumps(document, indent=2).encode() + b"\n"])


def write_new(path: Path, lines: Iterable[bytes]) -> None:
    """Write lines to a file that does not exist yet; InvalidRequest otherwise."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.writelines(lines)
    except FileExistsError:
        raise InvalidRequest(f"{path} exists already; nothing was written") from None
    except OSError as fault:
        raise InvalidRequest(f"{path} can't be written: {fault.strerror}") from None
