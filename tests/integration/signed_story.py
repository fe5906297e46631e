"""The log of a treasury whose approvers sign everything that takes a signature."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from coordinator.domain.canonical import canonical_json
from coordinator.domain.policy.approvals import Approver, Tier
from coordinator.domain.policy.credentials import Credential, CredentialKind
from coordinator.domain.policy.policy import Policy
from coordinator.domain.statements.pins import Pins
from coordinator.domain.statements.signed import GivenSignature, SigningRequest
from coordinator.domain.usdc import Usdc
from coordinator.ledger.audit.row_checks import RowChecks
from coordinator.ledger.proofs.verification import Verification, verify_export
from tests.integration.safes import SafeWallet, deploy_safe, owner_accounts
from tests.integration.signers_of_approvers import key_of, signing
from tests.integration.world import AGENT, World

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Log:
    """An export of the world, and the keys to write another that is chained and signed."""

    world: World
    lines: list[bytes]

    @property
    def rows(self) -> list[Row]:
        return [json.loads(line) for line in self.lines[1:]]

    def of(self, event: str, place: int = 0) -> int:
        """The row of this event, by its place among them; how many rows stand before it."""
        return [n for n, row in enumerate(self.rows) if row["event"] == event][place]

    def verified(self, *, pins: Pins | None = None) -> Verification:
        return verify_export(self.lines, self._checks(), pins=pins)

    def faults(self) -> list[str]:
        return list(self.verified().faults)

    def with_row(self, place: int, change: Callable[[Row], object], *, last: bool = False) -> Log:
        """The log with a changed row, or what is of it up to that row."""
        rows = self.rows[: place + 1] if last else self.rows
        change(rows[place])
        return self.chained(rows)

    def without(self, *places: int) -> Log:
        return self.chained([row for n, row in enumerate(self.rows) if n not in places])

    def chained(self, rows: Iterable[Row]) -> Log:
        """These rows as somebody exports them who has the id secret and the hosts' keys."""
        first = json.loads(self.lines[0])
        checks, key = self._checks(), self.world.wiring.own_host.key
        written, digest, seq = [], "0" * 64, 0
        for seq, row in enumerate(rows, start=1):
            text = canonical_json(row["body"]).decode()
            digest = checks.digest(
                digest, seq, row["at"], row["event"], row["subject"], text, row["host"]
            )
            signature = checks.signatures.make(key, digest)
            written.append({**row, "seq": seq, "hash": digest, "signature": signature})
        first |= {"audit_head": f"{seq}:{digest}", "seals": []}
        return Log(self.world, [canonical_json(one) + b"\n" for one in (first, *written)])

    def _checks(self) -> RowChecks:
        # What it signed it need not verify.
        return self.world.wiring.audit.checks


def signed_policy(world: World, safe: SafeWallet) -> Policy:
    """Two of five approve; above 100 three, with one of finance and one of engineering."""
    vault = Credential(CredentialKind.SAFE, safe.address)
    approvals = world.policy.approvals.model_copy(
        update={
            "required": 2,
            "signatures": "required",
            "tiers": [Tier(above=Usdc("100"), required=3, from_each=["finance", "engineering"])],
            "approvers": {
                **signing("alice", "carol", group="finance"),
                **signing("bob", "dora", group="engineering"),
                "vault": Approver(credentials=[vault], group="finance"),
            },
        }
    )
    document = world.policy.model_copy(update={"approvals": approvals}).document()
    document["agents"][AGENT]["daily_limit"] = "1500"
    document["increases"] = {"maximum": "100"}
    return Policy.from_dict(document)


@dataclass(frozen=True, slots=True)
class Story:
    """A world in which everything was signed."""

    world: World
    safe: SafeWallet

    @classmethod
    def begun(cls, world: World) -> Story:
        safe = deploy_safe(world.chain, owner_accounts(3), 2)
        world.apply(signed_policy(world, safe))
        world.round()
        return cls(world, safe)

    def told(self) -> Log:
        """Live it, and export its log."""
        paid = self._buy("60.00", "alice", "bob")
        self._buy("150.00", "alice", "bob", "vault")
        self._reject("70.00", "carol")
        self._change_the_policy()
        self._buy("80.00", "carol", "dora")
        self._unpause()
        self._withdraw()
        self._ask_for_more()
        self._end(paid)
        self.world.check_books()
        return Log(self.world, list(self.world.wiring.audit.export()))

    def sign(self, request: SigningRequest, name: str) -> GivenSignature:
        if name == "vault":
            return GivenSignature(signature="0x" + self.safe.sign(request.message.digest).hex())
        return GivenSignature(signature=key_of(name).sign_typed(request.message))

    def _approve(self, approval_id: str, *names: str) -> None:
        coordinator = self.world.coordinator
        for name in names:
            signature = self.sign(coordinator.statement(approval_id), name)
            if approval_id.startswith("apr_"):
                assert coordinator.approve(approval_id, approver=name, signature=signature).done
            elif approval_id.startswith("inc_"):
                coordinator.approve_increase(approval_id, approver=name, signature=signature)
            else:
                coordinator.approve_proposal(approval_id, approver=name, signature=signature)

    def _buy(self, amount: str, *names: str) -> str:
        asked = self.world.buy(amount, service="papers")
        self._approve(asked.approval_id or "", *names)
        self.world.go()
        assert self.world.status(asked) == "funded", self.world.get(asked)
        return asked.id

    def _reject(self, amount: str, name: str) -> None:
        asked, coordinator = self.world.buy(amount), self.world.coordinator
        request = coordinator.statement(asked.approval_id or "", reason="too dear")
        answer = coordinator.reject(
            asked.approval_id or "",
            approver=name,
            reason="too dear",
            signature=self.sign(request, name),
        )
        assert answer.done

    def _change_the_policy(self) -> None:
        """Alice leaves; what she signed before counts all the same."""
        current = self.world.wiring.policies.current()
        approvers = {n: a for n, a in current.approvals.approvers.items() if n != "alice"}
        approvals = current.approvals.model_copy(update={"approvers": approvers})
        changed = Policy.from_dict(current.model_copy(update={"approvals": approvals}).document())
        draft = self.world.coordinator.draft_policy(changed, by="olga", reason="alice left")
        self._approve(draft.id, "alice", "vault")
        assert self.world.wiring.policies.current().hash == changed.hash

    def _unpause(self) -> None:
        coordinator = self.world.coordinator
        coordinator.pause("to look", by="olga", agent="data-agent")
        coordinator.unpause("looked", by="bob", agent="data-agent")
        self._approve_waiting("bob", "carol")
        assert not self.world.wiring.operations.pauses()

    def _withdraw(self) -> None:
        world = self.world
        world.wiring.treasury.withdraw(
            to=world.chain.payee, amount="7", approver="bob", reason="to the bank"
        )
        self._approve_waiting("bob", "vault")
        world.go()
        assert world.chain.balance(world.chain.payee) == Usdc("7")

    def _approve_waiting(self, *names: str) -> None:
        (waiting,) = self.world.coordinator.proposals()
        self._approve(waiting.id, *names)

    def _ask_for_more(self) -> None:
        agent = self.world.coordinator.agent(AGENT)
        asked = agent.request_increase("20", reason="the month's end")
        self._approve(asked.id, "bob", "carol")
        assert self.world.wiring.budgets.increases.get(asked.id).granted

    def _end(self, purchase_id: str) -> None:
        """Of two that were delivered one is settled early, and one disputed."""
        world = self.world
        other = self._buy("90.00", "bob", "carol")
        for one in (purchase_id, other):
            world.chain.deliver(world.coordinator.get(one).escrow_id)
        world.go()
        world.coordinator.settle(purchase_id, approver="bob")
        self._approve_waiting("bob", "carol")
        request = world.coordinator.dispute_statement(other, reason="empty")
        answer = world.coordinator.dispute(
            other, approver="dora", reason="empty", signature=self.sign(request, "dora")
        )
        assert answer.done
        world.go()
        assert world.coordinator.get(purchase_id).status == "settled"
        assert world.coordinator.get(other).status == "disputed"
