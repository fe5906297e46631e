"""Approvers who sign, of a policy that they sign too; some lose their keys, and some lie."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from coordinator.chain.signers.opening import load_signer
from coordinator.chain.signers.signers import Signer
from coordinator.domain.policy.policy import Policy
from coordinator.domain.statements.signed import GivenSignature, SigningRequest
from coordinator.domain.usdc import Usdc
from tests.simulation.invariants import THRESHOLD, Broken

if TYPE_CHECKING:
    from coordinator.api.coordinator import Coordinator
    from coordinator.domain.purchase.approval import PendingApproval
    from coordinator.treasury.treasury import Treasury
    from tests.simulation.simulation import Simulation

NAMES: Final = ("alice", "bob", "carol")
_TIER: Final = Usdc("40")
_SIGNED_OF_TEN: Final = 4
_NEWEST: Final = (
    "SELECT seq, body FROM audit WHERE event = 'policy_activated' AND seq <= ?"
    " ORDER BY seq DESC LIMIT 1"
)
_ASKED: Final = (
    "SELECT body FROM audit WHERE subject = ? AND seq < ? AND event ="
    " 'purchase_awaiting_approval' ORDER BY seq DESC LIMIT 1"
)
_LAST: Final = 2**62


def is_signed(seed: int) -> bool:
    """Whether approvers sign in the run of this seed."""
    return random.Random(f"signed {seed}").randrange(10) < _SIGNED_OF_TEN


def approvals(seed: int) -> dict[str, Any]:
    """The table of approvals that such a run begins with."""
    return {
        "required": 1,
        "signatures": "required",
        "approvers": {name: _approver(seed, name, 0) for name in NAMES},
        "tiers": [{"above": str(_TIER), "required": 2}],
        "expires_after": "2h",
    }


@lru_cache(maxsize=1_000)
def _key(seed: int, name: str, number: int) -> Signer:
    """The key that somebody has after having lost so many."""
    secret = sha256(f"{seed} {name} {number}".encode()).hexdigest()
    return load_signer("env:KEY", {"KEY": "0x" + secret})


def _approver(seed: int, name: str, number: int) -> dict[str, Any]:
    return {"credentials": [f"address:{_key(seed, name, number).address}"]}


def _decides(table: dict[str, Any], amount: int) -> tuple[int, dict[str, Any]]:
    """How many decide a purchase of so many base units, and who: what else is changed leaves what
    was signed valid.
    """
    required = max(table["required"], 2 if amount > _TIER.base_units else 1)
    return required, table["approvers"]


@dataclass(frozen=True, slots=True)
class Given:
    """A signature of what was asked, by one of the approvers then: it counts while they agree."""

    name: str
    approvals: dict[str, Any]


@dataclass(slots=True)
class People:
    """The approvers of one run; their choices are their own, and come from its seed."""

    simulation: Simulation
    rng: random.Random
    keys: dict[str, int] = field(default_factory=lambda: dict.fromkeys(NAMES, 0))
    # By (approval, when it expires): what is asked again is asked anew.
    given: dict[tuple[str, int], list[Given]] = field(default_factory=dict)
    checked: int = 0
    # Creates above the threshold, each signed with signatures that count.
    paid: int = 0
    _read: tuple[int, Policy] | None = None

    def policy(self) -> Policy | None:
        """The version in force, as whoever keeps the policy's file writes it down."""
        found = self.simulation.invariants.rows(_NEWEST, _LAST)
        if not found:
            return None
        ((seq, body),) = found
        if self._read is None or self._read[0] != seq:
            self._read = seq, Policy.from_dict(json.loads(body)["document"])
        return self._read[1]

    def decide(self, coordinator: Coordinator, approval: PendingApproval) -> None:
        """Some sign that it is approved, or one that it is not; others try without a right to."""
        if self.rng.randrange(2):
            self._try_forged(coordinator, approval)
        if self.rng.randrange(8) == 0:
            request = coordinator.statement(approval.id, reason="no")
            signature = self._sign(request, "bob")
            coordinator.reject(approval.id, approver="bob", reason="no", signature=signature)
            return
        for name in self.rng.sample(NAMES, self.rng.choice((1, 2, 2, 3))):
            self._approve(coordinator, approval, name)
        if self.rng.randrange(3) == 0:
            # What they have signed may count no more before its create is signed.
            self.change_policy(coordinator)

    def _approve(self, coordinator: Coordinator, approval: PendingApproval, name: str) -> None:
        request = coordinator.statement(approval.id)
        if self._counts(name):
            # It may count although the answer is lost.
            place = (approval.id, request.statement.expires_at)
            self.given.setdefault(place, []).append(Given(name, self._approvals()))
            self.simulation.invariants.approvals.add(approval.purchase.id)
        answer = coordinator.approve(
            approval.id, approver=name, signature=self._sign(request, name)
        )
        if answer.done:
            self.simulation.invariants.admitted(answer.purchase)

    def _try_forged(self, coordinator: Coordinator, approval: PendingApproval) -> None:
        name = self.rng.choice((*NAMES, "mallory"))
        self.simulation.faults.struck["signature_forged"] += 1
        forged = self._forge(coordinator.statement(approval.id), name)
        answer = coordinator.approve(approval.id, approver=name, signature=forged)
        if answer.done:
            raise Broken("no signature counts that is another's", name)

    def look_after(self, coordinator: Coordinator) -> None:
        """Nothing waits to be bought: now and then there is something else to sign."""
        way = self.rng.randrange(6)
        if way == 0:
            self.change_policy(coordinator)
        elif way == 1:
            self.sign_proposals(coordinator)

    def change_policy(self, coordinator: Coordinator) -> None:
        """Draft a version with other approvers or rules, and let some sign it."""
        document = self._document()
        if document is None:
            return
        table = document["approvals"]
        way = self.rng.randrange(4)
        if way == 0:
            table["required"] = 3 - table["required"]
        elif way == 1:
            # What decides no purchase.
            document.setdefault("alerts", {})["thresholds"] = [self.rng.randrange(10, 90)]
        else:
            name = self.rng.choice(NAMES)
            self.keys[name] += 1
            self.simulation.faults.struck["credential_changed"] += 1
            table["approvers"][name] = _approver(self.simulation.seed, name, self.keys[name])
        # Who lost a key signs with it no more; the others are enough.
        coordinator.draft_policy(Policy.from_dict(document), by="olga", reason="simulated")
        if self.rng.randrange(4):
            self.sign_proposals(coordinator)

    def sign_proposals(self, coordinator: Coordinator) -> None:
        """Whoever approves signs each proposal that waits, and mallory tries too."""
        for waiting in coordinator.proposals():
            for name in ("mallory", *self.rng.sample(NAMES, len(NAMES))):
                request = coordinator.statement(waiting.id)
                signature = self._sign(request, name)
                found, refusal = coordinator.approve_proposal(
                    waiting.id, approver=name, signature=signature
                )
                if name == "mallory" and refusal is None:
                    raise Broken("mallory approves nothing", waiting.id)
                if not found.waits:
                    break

    def dispute(self, treasury: Treasury, purchase_id: str, bond: Usdc) -> GivenSignature:
        request = treasury.dispute_statement(purchase_id, reason="empty", bond=bond)
        return self._sign(request, "alice")

    def check(self) -> None:
        """Nothing above the threshold is signed without signatures that count."""
        found = self.simulation.invariants.rows(
            "SELECT seq, subject FROM audit WHERE event = 'create_signed' AND seq > ?",
            self.checked,
        )
        for seq, purchase_id in found:
            self.checked = seq
            self._check_create(seq, purchase_id)

    def _check_create(self, seq: int, purchase_id: str) -> None:
        rows = self.simulation.invariants.rows
        first = "SELECT body FROM audit WHERE subject = ? ORDER BY seq LIMIT 1"
        amount = json.loads(rows(first, purchase_id)[0][0])["amount"]
        if amount <= THRESHOLD.base_units:
            return
        decides = _decides(self._approvals(seq), amount)
        asked = [json.loads(body)["approval"] for (body,) in rows(_ASKED, purchase_id, seq)]
        names = {
            one.name
            for approval in asked
            for one in self.given.get((approval["id"], approval["expires_at"]), ())
            if _decides(one.approvals, amount) == decides
        }
        if len(names) < decides[0]:
            raise Broken("nothing is signed without signatures that count", (purchase_id, names))
        self.paid += 1

    def _document(self, seq: int = _LAST) -> dict[str, Any] | None:
        found = self.simulation.invariants.rows(_NEWEST, seq)
        document: dict[str, Any] | None = json.loads(found[0][1])["document"] if found else None
        return document

    def _approvals(self, seq: int = _LAST) -> dict[str, Any]:
        document = self._document(seq)
        assert document is not None
        table: dict[str, Any] = document["approvals"]
        return table

    def _counts(self, name: str) -> bool:
        """Whether the key that somebody has at present is one of the policy in force."""
        known = self._approvals()["approvers"].get(name, {})
        own = _approver(self.simulation.seed, name, self.keys.get(name, 0))
        return bool(known.get("credentials") == own["credentials"])

    def _sign(self, request: SigningRequest, name: str) -> GivenSignature:
        key = _key(self.simulation.seed, name, self.keys.get(name, 0))
        return GivenSignature(signature=key.sign_typed(request.message))

    def _forge(self, request: SigningRequest, name: str) -> GivenSignature | None:
        """Another's signature, one of something else, what is no signature, or none."""
        way = self.rng.randrange(5)
        other = _key(self.simulation.seed, "mallory", 0)
        if way == 0:
            return None
        if way == 1:
            return GivenSignature(signature="0x" + "00" * self.rng.choice((0, 1, 64, 65, 66)))
        if way == 2:
            return GivenSignature(signature=other.sign_typed(request.message))
        own = self._sign(request, name).signature
        if way == 3:
            return GivenSignature(signature=own[:10] + f"{self.rng.getrandbits(480):0120x}" + "1b")
        statement = request.statement.as_dict() | {"amount": 1}
        return GivenSignature(signature=own, statement=statement)
