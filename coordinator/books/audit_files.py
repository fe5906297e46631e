"""Verify exports of audit logs, which need no database."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from coordinator.chain.evm.safes import Safes
from coordinator.chain.rpc.client import Rpc
from coordinator.domain.audit import Head
from coordinator.domain.chain.escrow_key import audit_key
from coordinator.domain.errors import ChainUnavailable, InvalidRequest
from coordinator.domain.ports import Ticks
from coordinator.domain.statements.pins import Pins
from coordinator.ledger.audit.row_checks import RowChecks
from coordinator.ledger.proofs.verification import Verification, compared, verify_export


def verify_file(
    path: Path, *, id_secret: bytes, expected: Head | None = None, pins: Pins | None = None
) -> Verification:
    """Verify an export; InvalidRequest for what is none."""
    checks = RowChecks(audit_key(id_secret))
    try:
        with path.open("rb") as lines:
            return verify_export(lines, checks, expected, pins=pins)
    except OSError as fault:
        raise InvalidRequest(f"{path} can't be read: {fault.strerror}") from None


def compared_with_chain(found: Verification, urls: Sequence[str], ticks: Ticks) -> Verification:
    """Compare what was recorded of Safes with the chain; nothing is asked where there are none.

    ChainUnavailable where it does not answer, InvalidRequest for another chain.
    """
    if found.trust is None or not found.signatures.safes:
        return found
    rpc = Rpc(tuple(urls), ticks=ticks)
    answer = rpc.call("eth_chainId")
    if not isinstance(answer, str):
        raise ChainUnavailable("the endpoint does not tell its chain")
    if (chain_id := int(answer, 16)) != found.trust.chain_id:
        raise InvalidRequest(
            f"the endpoint is of chain {chain_id}, and it was signed for {found.trust.chain_id}"
        )
    return compared(found, Safes(rpc))
