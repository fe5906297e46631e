"""Whoever owns a host that decides: its key, its code, the id secret and the database."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from coordinator.domain.policy.policy import Policy
from coordinator.domain.purchase.proposal import Proposal, ProposalKind, ProposalStatus
from coordinator.domain.purchase.purchase import Purchase
from coordinator.domain.statements.making import proposal_statement
from coordinator.domain.statements.signed import Signed
from coordinator.domain.statements.statement import Statement
from coordinator.domain.usdc import Usdc
from coordinator.ledger.proofs.agreement import expected_statement
from coordinator.ledger.spend.holds import place_hold
from coordinator.ledger.spend.proposals import insert_proposal
from coordinator.ledger.spend.purchase_rows import bind_key, insert_purchase
from coordinator.ledger.tx.activation import activate_policy
from coordinator.ledger.tx.operations import insert_order
from coordinator.ledger.tx.transaction import Tx
from coordinator.wiring import Wiring
from tests.integration.forger.stage import Stage
from tests.integration.signers_of_approvers import credential, key_of
from tests.integration.world import AGENT

Words = Mapping[str, Mapping[str, Any]]
"""By approver, what a row says that was signed."""


@dataclass
class HostForger:
    """Writes rows that are authentic and wrong, with a certified decider's own code."""

    stage: Stage
    host: Wiring = field(init=False)

    def __post_init__(self) -> None:
        self.host = self.stage.decider().wiring

    @property
    def now(self) -> int:
        return self.stage.world.clock()

    def write(self, event: str, subject: str, *, at: int | None = None, **body: Any) -> None:
        """Append a row to the audit log."""
        with self.host.transactions.write() as tx:
            tx.record(at if at is not None else self.now, event, subject, **body)

    def edit(self, statement: str, *values: str | int) -> None:
        self.stage.world.edit(statement, *values)

    # Purchases.

    def purchase(
        self,
        amount: str,
        *,
        provider: str | None = None,
        name: str | None = "paper-api",
        approval: Mapping[str, Any] | None = None,
        said: Words | None = None,
        at: int | None = None,
        logged: Mapping[str, Any] | None = None,
        **terms: Any,
    ) -> str:
        """A purchase that nobody asked for, approved as ``said``, and its hold.

        The audit log tells ``logged`` of it too.
        """
        world, at = self.stage.world, at if at is not None else self.now
        of, key = f"pur_{secrets.token_hex(10)}", secrets.token_hex(8)
        row = {
            "agent": AGENT,
            "idempotency_key": key,
            "provider": provider or world.chain.provider,
            "provider_name": name,
            "amount": Usdc(amount).base_units,
            "purpose": "a forgery",
            "service": "papers",
            "category": None,
            "task": None,
            "session": None,
            "settle": "after_window",
        } | terms
        with self.host.transactions.write() as tx:
            self._insert(tx, of, row, at)
            event = "purchase_approved" if approval is None else "purchase_awaiting_approval"
            stored = {"reasons": [], "limits": []}
            policy = tx.policy.hash
            told = {"terms": "0" * 64, "approval": approval, "policy": policy, **stored}
            tx.record(at, event, of, **row, **told, **(logged or {}))
            if approval is not None:
                self._decide(tx, of, said or {}, at, policy=policy, **stored)
        return of

    def _insert(self, tx: Tx, of: str, row: Mapping[str, Any], at: int) -> None:
        agent, key = row["agent"], row["idempotency_key"]
        insert_purchase(
            tx,
            {
                **row,
                "id": of,
                "status": "approved",
                "terms_hash": "0" * 64,
                "escrow_key": self.host.escrow_keys.key(agent, key),
                "policy_hash": tx.policy.hash,
                "decision": '{"reasons": [], "limits": []}',
                "reason_code": None,
                "reason_message": None,
                "created_at": at,
                "updated_at": at,
                "approved_at": at,
                "ended_at_block": None,
                "cancel_wanted": 0,
                "settle_wanted": 0,
            },
        )
        bind_key(tx, agent, key, of, "0" * 64)
        place_hold(
            tx,
            "purchase",
            Usdc.from_base_units(row["amount"]),
            [],
            purchase_id=of,
            placed_at=at,
        )

    def _decide(self, tx: Tx, of: str, said: Words, at: int, **judged: Any) -> None:
        for name, proof in said.items():
            tx.record(at, "purchase_approved_by", of, approver=name, host="h", user="u", **proof)
        tx.record(at, "purchase_approved", of, before="awaiting_approval", **judged)

    def approve(self, of: str, said: Words, *, at: int | None = None) -> None:
        """Approve what waits, in the names and with the words given."""
        at = at if at is not None else self.now
        self.edit("UPDATE purchases SET status='approved', approved_at=? WHERE id=?", at, of)
        with self.host.transactions.write() as tx:
            judged = {"policy": tx.policy.hash, "reasons": [], "limits": []}
            self._decide(tx, of, said, at, **judged)

    def words_of(self, purchase: Purchase) -> dict[str, dict[str, Any]]:
        """The signatures that approvers gave for a purchase, by name."""
        w = self.host
        with w.database.read() as connection:
            rows = w.audit.proven(connection, purchase.id, events=("purchase_approved_by",))
        return {row.body["approver"]: {"signed": row.body["signed"]} for row in rows}

    def approval_of(self, purchase: Purchase) -> dict[str, Any]:
        """The approval of a purchase, as its first row tells it."""
        w = self.host
        with w.database.read() as connection:
            rows = w.audit.proven(connection, purchase.id)
        found: dict[str, Any] = rows[0].body["approval"]
        return found

    def statement_of(self, of: str) -> Statement:
        """What approvers of a purchase have to sign under the policy in force."""
        w = self.host
        with w.transactions.read() as tx:
            past = w.evidence.purchase(tx.connection, of)
            return expected_statement(tx.policy, past)

    def signed(self, statement: Statement, *names: str, **trust: Any) -> dict[str, dict[str, Any]]:
        """What these signed, by name; ``trust`` is of another treasury, chain or kernel."""
        with self.host.transactions.read() as tx:
            assert tx.trust is not None
            message = statement.message(replace(tx.trust, **trust))
        made = {
            name: Signed(
                statement=statement,
                credential=credential(name),
                signature=key_of(name).sign_typed(message),
            )
            for name in names
        }
        return {name: {"signed": one.as_dict()} for name, one in made.items()}

    # Proposals and the policy.

    def propose(
        self,
        kind: ProposalKind,
        terms: Mapping[str, Any],
        said: Words,
        *,
        of: str | None = None,
        **fields: Any,
    ) -> Proposal:
        """A proposal that nobody made, approved as ``said``."""
        made = Proposal(
            **{
                "id": of or "wdr_" + secrets.token_hex(10),
                "kind": kind,
                "terms": terms,
                "by": "olga",
                "reason": "a forgery",
                "status": ProposalStatus.AWAITING_APPROVAL,
                "required": 2,
                "approved_by": (),
                "created_at": self.now,
                "expires_at": self.now + 86_400,
            }
            | fields
        )
        with self.host.transactions.write() as tx:
            insert_proposal(tx, made, self.now)
            self._agree(tx, made.id, said)
        return made

    def agree(self, proposal_id: str, said: Words) -> None:
        with self.host.transactions.write() as tx:
            self._agree(tx, proposal_id, said)

    def _agree(self, tx: Tx, proposal_id: str, said: Words) -> None:
        for name, proof in said.items():
            tx.record(
                self.now, "proposal_approved_by", proposal_id, approver=name, host="h", **proof
            )
        tx.record(self.now, "proposal_approved", proposal_id, approved_by=[*said])

    def order(self, proposal: Proposal, **other: Any) -> None:
        """Order the withdrawal of a proposal."""
        terms = {**proposal.terms, "order_id": proposal.id} | other
        with self.host.transactions.write() as tx:
            insert_order(
                tx,
                "withdraw",
                order_id=terms["order_id"],
                recipient=terms["recipient"],
                amount=Usdc.from_base_units(terms["amount"]),
                by="olga",
                reason="a forgery",
                now=self.now,
                approved_by=["alice", "bob"],
                required=2,
                proposal=proposal.id,
            )

    def sign_proposal(self, proposal: Proposal, *names: str) -> dict[str, dict[str, Any]]:
        """What these sign for the proposal under the policy in force."""
        with self.host.transactions.read() as tx:
            statement = proposal_statement(tx.policy, proposal)
        return self.signed(statement, *names)

    def activate(self, policy: Policy, proposal: str = "pol_made_up") -> None:
        """Put a version in force with whatever proposal."""
        with self.host.transactions.write() as tx:
            activate_policy(
                tx,
                Policy.from_dict(policy.document()),
                contracts=self.host.contracts,
                author="mallory",
                reason="a forgery",
                now=self.now,
                proposal=proposal,
            )

    def ask(self, amount: str, *, agent: str = AGENT, provider: str = "paper-api") -> Purchase:
        """Ask as the host's own code does."""
        return self.stage.world.buy(amount, agent=agent, provider=provider)

    def cut(self, after: int) -> Sequence[tuple[Any, ...]]:
        """Cut the log's end off; the rows that are gone."""
        query = "SELECT event, subject, body FROM audit WHERE seq > ? ORDER BY seq"
        gone = self.stage.world.rows(query, after)
        self.edit("DELETE FROM audit WHERE seq > ?", after)
        return gone
