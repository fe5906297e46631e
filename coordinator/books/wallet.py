"""The wallet that pays for HTTP requests, as people look at it."""

from __future__ import annotations

from typing import Any

from coordinator.domain.policy.tables import X402
from coordinator.domain.usdc import Usdc
from coordinator.domain.x402.top_ups import Float
from coordinator.ledger.ledger import Ledger


def wallet_report(
    ledger: Ledger, *, now: int, since: int | None = None, until: int | None = None
) -> dict[str, Any] | None:
    """Return its USDC, what is held of it, and what filled it in [since, until); None without one.

    ``usdc`` is the balance that the executor read last, None where it never did, ``booked`` the
    journal's, as it is now; ``top_up_left`` what the daily limit leaves at present.
    """
    wallet = ledger.wallet
    if wallet is None:
        return None
    seen, held = ledger.operations.balances(wallet), ledger.top_ups.held().wallet
    free = Float(seen.usdc_balance, held).free if seen is not None else None
    return {
        "address": wallet,
        "usdc": _text(seen.usdc_balance if seen is not None else None),
        "as_of_block": seen.block_number if seen is not None else None,
        "booked": str(ledger.journal.account_balances([wallet])[wallet]),
        "held": str(held),
        "free": _text(free),
        "top_ups": str(ledger.journal.filled(wallet, since=since, until=until)),
        **_terms(ledger.policies.current().request_payments),
        "top_up_left": _text(ledger.top_ups.left(now=now)),
    }


def _terms(x402: X402) -> dict[str, str | None]:
    names = ("top_up_below", "top_up_to", "top_up_daily_limit")
    return {name: _text(getattr(x402, name)) for name in names}


def _text(amount: Usdc | None) -> str | None:
    return None if amount is None else str(amount)
