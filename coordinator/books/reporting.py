"""Reports for operators and auditors: money, gas, receipts. Reads the ledger alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from coordinator.books.wallet import wallet_report
from coordinator.domain.chain.gas import Fees, eth, purchases_left, reserve_wei
from coordinator.domain.chain.journal import EntryKind
from coordinator.domain.chain.reconciliation import Discrepancy
from coordinator.domain.limits.limits import ORGANISATION, UNUSED, CounterKey, Usage
from coordinator.domain.policy.policy import Policy
from coordinator.domain.ports import Clock
from coordinator.domain.purchase.lifecycle import Status
from coordinator.domain.purchase.replay import Replay
from coordinator.domain.reasons import Reason
from coordinator.domain.shown import Shown
from coordinator.domain.times import rfc3339
from coordinator.domain.usdc import ZERO, Usdc
from coordinator.domain.windows import Window
from coordinator.ledger.chain.differences import differences_in_books
from coordinator.ledger.ledger import Ledger
from coordinator.ledger.restore.history import replay_history

# A lane that moves is mined within a few blocks.
_STUCK_SECONDS: Final = 300


@dataclass(frozen=True, slots=True)
class GasReport(Shown):
    """Gas in wei: the balance as last read, its spending, and how many purchases it covers.

    ``purchases_left`` counts purchases that could be created, funded and ended at the fee
    ceiling of the last block read, None while the fee is not known.
    """

    address: str
    balance_wei: int
    block_number: int | None
    purchases_left: int | None
    warning: str | None
    by_agent_wei: Mapping[str, int]
    by_step: Mapping[str, tuple[int, int, int]]

    def as_dict(self) -> dict[str, Any]:
        return {
            "address": self.address,
            "balance_wei": self.balance_wei,
            "balance_eth": eth(self.balance_wei),
            "as_of_block": self.block_number,
            "purchases_left": self.purchases_left,
            "warning": self.warning,
            "by_agent_wei": {agent or "treasury": wei for agent, wei in self.by_agent_wei.items()},
            "by_step": {
                step: {"count": count, "gas_used": gas, "wei": wei}
                for step, (count, gas, wei) in self.by_step.items()
            },
        }


@dataclass(frozen=True, slots=True)
class Report(Shown):
    """The books over [since, until) by block time; amounts in USDC.

    closing = opening + deposits - paid - fees - penalties - withdrawals - bonds lost - what is
    in escrow and bonds more than before.
    """

    values: Mapping[str, Any]

    def as_dict(self) -> dict[str, Any]:
        return dict(self.values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reporter:
    """Answers from the ledger; the executor keeps it fresh."""

    ledger: Ledger
    clock: Clock

    def gas(self) -> GasReport:
        """Return the gas balance as the executor last read it, and every wei paid so far."""
        seen = self.ledger.operations.balances(self.ledger.identity.treasury)
        payer = self.ledger.signer_address
        by_agent, by_step = self.ledger.gas.by_agent(), self.ledger.gas.by_step()
        if seen is None:
            warning = (
                "the balance was never read: run `coordinator worker` or `coordinator recover`"
            )
            return GasReport(payer, 0, None, None, warning, by_agent, by_step)
        started = {Status.APPROVED, Status.CREATED}
        open_ones = self.ledger.books.open_purchases()
        unstarted = sum(1 for p in open_ones if p.status in started)
        left = None
        if seen.fees.max_fee_per_gas:
            reserved = reserve_wei(
                seen.fees, unstarted=unstarted, unended=len(open_ones) - unstarted
            )
            left = purchases_left(seen.gas_balance_wei, reserved, seen.fees)
        low = self.ledger.policies.current().alerts.gas_balance_below_eth
        warnings = []
        if seen.gas_balance_wei < low:
            warnings.append(f"below {eth(low)} ETH: send ETH to {payer}")
        if (stuck := self._stuck(seen.fees)) is not None:
            warnings.append(stuck)
        return GasReport(
            payer,
            seen.gas_balance_wei,
            seen.block_number,
            left,
            "; ".join(warnings) or None,
            by_agent,
            by_step,
        )

    def _stuck(self, fees: Fees) -> str | None:
        """Describe the first pending transaction if it has waited for long; None if not."""
        signed = (step for step in self.ledger.steps.in_flight() if step.attempts)
        first = next(signed, None)
        if first is None or self.clock() - first.created_at < _STUCK_SECONDS:
            return None
        return (
            f"the {first.kind} at nonce {first.nonce} is pending since {rfc3339(first.created_at)}:"
            f" it pays at most {first.attempts[-1].max_fee_per_gas} wei per gas, and"
            f" {fees.max_fee_per_gas or 'more than the ceiling'} is suggested"
        )

    def discrepancies(self) -> list[Discrepancy]:
        """List differences within the books; `reconcile` also reads the chain."""
        return list(
            differences_in_books(self.ledger.books, self.ledger.journal, self.ledger.operations)
        )

    def replay(self, policy: Policy, *, since: int, until: int, minimum: Usdc) -> Replay:
        """Decide the requests of [since, until) again by another policy; nothing is written."""
        return replay_history(
            self.ledger.database, policy, since=since, until=until, minimum=minimum
        )

    def report(self, *, since: int | None = None, until: int | None = None) -> Report:
        """Report the movements of USDC in [since, until), what is open, and the audit head.

        Costs without an escrow stand under ``off_chain`` alone: no USDC of the treasury moved.
        """
        sums = self.ledger.journal.sums(since=since, until=until)
        # What was left in an account that is ours no more went to nobody who was paid.
        withdrawn = sums.get(EntryKind.OUTFLOW, ZERO) + sums.get(EntryKind.CLOSING, ZERO)
        opening = sums.get(EntryKind.OPENING, ZERO)
        if since is not None:
            opening = self.ledger.journal.balance_before(since)
        closing = (
            self.ledger.journal.balance_before(until)
            if until is not None
            else self.ledger.journal.treasury_balance()
        )
        total, limit = self._organisation_total()
        cursor = self.ledger.books.cursor()
        values = {
            "as_of_block": cursor.number if cursor else None,
            "since": rfc3339(since),
            "until": rfc3339(until),
            "opening": str(opening),
            "deposits": str(sums.get(EntryKind.DEPOSIT, ZERO)),
            "paid": str(sums.get(EntryKind.PAYOUT, ZERO) + sums.get(EntryKind.X402, ZERO)),
            "fees": str(sums.get(EntryKind.FEE, ZERO)),
            "penalties": str(sums.get(EntryKind.PENALTY, ZERO)),
            "refunds": str(sums.get(EntryKind.REFUND, ZERO)),
            "withdrawals": str(withdrawn),
            "bonds_lost": str(sums.get(EntryKind.BOND_LOSS, ZERO)),
            "in_escrow": str(_total(self.ledger.journal.escrow_balances().values())),
            "closing": str(closing),
            "total_limit": str(limit) if limit is not None else None,
            "spent": str(total.spent),
            "held": str(total.held),
            "remaining": str(limit - total.held - total.spent) if limit is not None else None,
            "off_chain": _sums(self.ledger.costs.sum(since=since, until=until)),
            "by_agent": self._by("agent", since, until),
            "by_category": self._by("category", since, until),
            "by_provider": self._by("provider", since, until),
            "pending_approvals": [
                pending_dict(item.id, item.purchase.id, item.purchase.amount, item.expires_at)
                for item in self.ledger.approvals.pending(self.clock())
            ],
            "stranded": [
                {"purchase_id": p.id, "amount": str(p.amount), "why": _message(p.stranded)}
                for p in self.ledger.purchases.stranded()
            ],
            "discrepancies": [d.as_dict() for d in self.discrepancies()],
            "gas": self.gas().as_dict(),
            "wallet": wallet_report(self.ledger, now=self.clock(), since=since, until=until),
            "paused": [str(pause) for pause in self.ledger.operations.pauses()],
            "audit_head": str(self.ledger.audit.head()),
        }
        return Report(values)

    def wallet(self) -> dict[str, Any] | None:
        """Return the wallet that pays for HTTP requests; None where there is none."""
        return wallet_report(self.ledger, now=self.clock())

    def receipt(self, purchase_id: str) -> dict[str, Any]:
        """Return one purchase with its audit rows and the audit head; UnknownId if unknown."""
        purchase = self.ledger.purchases.get(purchase_id)
        rows = [
            {**row, "at": rfc3339(row["at"])} for row in self.ledger.audit.rows(subject=purchase_id)
        ]
        return {
            "purchase": purchase.as_dict(),
            "treasury": self.ledger.identity.treasury,
            "audit": rows,
            "audit_head": str(self.ledger.audit.head()),
        }

    def _organisation_total(self) -> tuple[Usage, Usdc | None]:
        policy = self.ledger.policies.current()
        key = CounterKey(ORGANISATION, Window.TOTAL, 0)
        used = self.ledger.limits.usage([key]).get(key, Usage())
        stated = policy.organisation.total_limit
        return used, stated if isinstance(stated, Usdc) else None

    def _by(self, column: str, since: int | None, until: int | None) -> dict[str, Any]:
        bought = self.ledger.purchases.sums_by(column, since=since, until=until)
        costs = self.ledger.costs.sums_by(column, since=since, until=until)
        return {
            name or "unattributed": _sums(bought.get(name, UNUSED))
            | {"off_chain": _sums(costs.get(name, UNUSED))}
            for name in sorted({*bought, *costs})
        }


def _sums(used: Usage) -> dict[str, str]:
    return {"spent": str(used.spent), "held": str(used.held)}


def pending_dict(
    approval_id: str, purchase_id: str, amount: Usdc, expires_at: int
) -> dict[str, Any]:
    return {
        "approval_id": approval_id,
        "purchase_id": purchase_id,
        "amount": str(amount),
        "expires_at": rfc3339(expires_at),
    }


def _message(reason: Reason | None) -> str | None:
    return reason.message if reason else None


def _total(amounts: Any) -> Usdc:
    return Usdc.from_base_units(sum(amount.base_units for amount in amounts))
