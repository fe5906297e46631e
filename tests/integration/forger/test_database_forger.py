"""Whoever writes anything to the database, and knows no secret, has nothing paid, and is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import pytest

from coordinator.chain.abi import token_abi
from coordinator.domain.policy.policy import Policy
from coordinator.domain.purchase.purchase import Purchase
from coordinator.domain.usdc import ZERO, Usdc
from tests.integration.forger.stage import HONEST, THIEF, Stage
from tests.integration.stores import on_either
from tests.integration.world import World

pytestmark = on_either

ABOVE: Final = "60.00"


class Named(NamedTuple):
    """What ``audit verify`` names, what people are told, and what left within the rules."""

    words: str
    told: str
    paid: Usdc = ZERO


@dataclass(frozen=True)
class DatabaseForger:
    """Everything that SQL can do."""

    stage: Stage

    @property
    def world(self) -> World:
        return self.stage.world

    def edit(self, statement: str, *values: str | int) -> None:
        self.world.edit(statement, *values)

    def waiting(self) -> Purchase:
        """What nobody has approved."""
        return self.world.buy(ABOVE)

    def approved(self) -> Purchase:
        """What two have signed, and the worker has not."""
        return self.stage.approved(ABOVE)

    def delivered(self) -> Purchase:
        """A large purchase that was delivered and is not to be paid yet."""
        bought = self.approved()
        self.stage.work()
        self.world.chain.deliver(self.world.get(bought).escrow_id)
        self.stage.work(1)
        return bought

    def append(self, event: str, subject: str, **body: Any) -> None:
        """A row of the log that looks like the newest one."""
        query = "SELECT seq, at, hash, host, signature FROM audit ORDER BY seq DESC LIMIT 1"
        ((seq, at, digest, host, signature),) = self.world.rows(query)
        self.edit(
            "INSERT INTO audit (seq, at, event, subject, body, hash, host, signature)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            *(seq + 1, at, event, subject, json.dumps(body), digest[::-1], host, signature),
        )

    def lax(self) -> Policy:
        """The policy in force with the thief in it, and no threshold."""
        document = json.loads(json.dumps(self.stage.policy().document()))
        document["providers"]["new"] = {"address": THIEF}
        document["agents"]["research-agent"]["approval_threshold"] = "unlimited"
        return Policy.from_dict(document)

    def status(self, purchase: Purchase) -> None:
        now = self.world.clock()
        self.edit(
            "UPDATE purchases SET status='approved', approved_at=? WHERE id=?", now, purchase.id
        )


Forgery = Callable[[DatabaseForger], Named]
FORGERIES: Final[dict[str, Forgery]] = {}


def forgery(name: str) -> Callable[[Forgery], Forgery]:
    def add(function: Forgery) -> Forgery:
        FORGERIES[name] = function
        return function

    return add


@forgery("a status")
def _(forger: DatabaseForger) -> Named:
    waiting = forger.waiting()
    forger.status(waiting)
    return Named(f"purchase {waiting.id}: its status is 'approved'", "its status is 'approved'")


@forgery("approvals, and how many it takes")
def _(forger: DatabaseForger) -> Named:
    waiting = forger.waiting()
    for name in ("alice", "bob"):
        forger.edit(
            'INSERT INTO approval_decisions (approval_id, approver, decision, at, host, "user")'
            " VALUES (?, ?, 'approved', 1, 'h', 'u')",
            *(waiting.approval_id or "", name),
        )
    forger.edit("UPDATE approvals SET required = 0")
    forger.status(waiting)
    return Named(f"purchase {waiting.id}: its approval is", "its status is 'approved'")


@forgery("a row of the log that tells of approval")
def _(forger: DatabaseForger) -> Named:
    waiting = forger.waiting()
    forger.append("purchase_approved", waiting.id, policy="0" * 64, reasons=[], limits=[])
    forger.status(waiting)
    return Named(f"(purchase_approved {waiting.id}) was changed or moved", "audit row")


@forgery("another purchase's approvals moved to it")
def _(forger: DatabaseForger) -> Named:
    waiting, signed = forger.waiting(), forger.approved()
    forger.edit(
        "UPDATE audit SET subject=? WHERE subject=? AND event LIKE 'purchase_approved%'",
        *(waiting.id, signed.id),
    )
    forger.status(waiting)
    return Named(f"(purchase_approved_by {waiting.id}) was changed or moved", "audit row")


@forgery("its amount in the log")
def _(forger: DatabaseForger) -> Named:
    waiting = forger.waiting()
    forger.edit("UPDATE audit SET body = replace(body, '60000000', '40000000')")
    forger.edit("UPDATE purchases SET amount = 40000000 WHERE id = ?", waiting.id)
    forger.status(waiting)
    return Named(f"(purchase_awaiting_approval {waiting.id}) was changed or moved", "audit row")


@forgery("its amount after it was approved")
def _(forger: DatabaseForger) -> Named:
    signed = forger.approved()
    forger.edit("UPDATE purchases SET amount = 90000000 WHERE id = ?", signed.id)
    return Named(f"purchase {signed.id}: its amount is 90000000", "its amount is 90000000")


@forgery("its payee after it was approved")
def _(forger: DatabaseForger) -> Named:
    signed = forger.approved()
    forger.edit("UPDATE purchases SET provider = ? WHERE id = ?", THIEF, signed.id)
    return Named(f"purchase {signed.id}: its provider is", "its provider is")


@forgery("the document of the policy")
def _(forger: DatabaseForger) -> Named:
    waiting = forger.waiting()
    lax = json.dumps(forger.lax().document(), sort_keys=True)
    forger.edit("UPDATE policies SET document = ?", lax)
    forger.status(waiting)
    return Named("its document is not the one with this hash", "its status is 'approved'")


@forgery("a policy")
def _(forger: DatabaseForger) -> Named:
    waiting, lax = forger.waiting(), forger.lax()
    forger.edit(
        "INSERT INTO policies (hash, author, reason, activated_at, document)"
        " VALUES (?, 'olga', 'a test', 1, ?)",
        *(lax.hash, json.dumps(lax.document(), sort_keys=True)),
    )
    forger.status(waiting)
    told = "is not the one last put in force"
    return Named("the audit log does not tell that it was put in force", told)


@forgery("an order to withdraw")
def _(forger: DatabaseForger) -> Named:
    forger.edit(
        'INSERT INTO orders (id, kind, recipient, amount, "by", reason, status, created_at)'
        " VALUES ('wdr_x', 'withdraw', ?, 5000000, 'alice', 'payday', 'approved', 1)",
        THIEF,
    )
    return Named("order wdr_x: the audit log does not tell of it", "failed wdr_x")


@forgery("a proposal that is approved, and its order")
def _(forger: DatabaseForger) -> Named:
    coordinator = forger.world.coordinator
    coordinator.wiring.treasury.withdraw(to=THIEF, amount="5.00", approver="alice", reason="x")
    (made,) = coordinator.proposals()
    forger.edit("UPDATE proposals SET status = 'approved' WHERE id = ?", made.id)
    forger.edit(
        'INSERT INTO orders (id, kind, recipient, amount, "by", reason, status, created_at)'
        " VALUES (?, 'withdraw', ?, 5000000, 'alice', 'x', 'approved', 1)",
        *(made.id, THIEF),
    )
    return Named(f"order {made.id}: the audit log does not tell of it", f"failed {made.id}")


@forgery("a step")
def _(forger: DatabaseForger) -> Named:
    world = forger.world
    forger.stage.work()
    ((chain_id, nonce, gas),) = world.rows(
        "SELECT chain_id, max(nonce), max(gas_limit) FROM steps GROUP BY chain_id"
    )
    forger.edit(
        "INSERT INTO steps (chain_id, signer, nonce, kind, status, recipient, data, gas_limit,"
        " created_at, mac) VALUES (?, ?, ?, 'fill', 'allocated', ?, ?, ?, 0, '00')",
        *(chain_id, world.treasury, nonce + 1, world.chain.deployment.usdc),
        *(token_abi().call("transfer", THIEF, 5_000_000), gas),
    )
    told = f"the call at nonce {nonce + 1} is not the one that was allocated"
    return Named("step", told, paid=HONEST)


@forgery("a pause taken out")
def _(forger: DatabaseForger) -> Named:
    forger.world.coordinator.pause("stop", by="olga")
    forger.stage.work(1)
    forger.edit("DELETE FROM pauses")
    told = "the pause of organisation is gone and nobody unpaused it"
    return Named("pause", told)


@forgery("a settle before its window ends")
def _(forger: DatabaseForger) -> Named:
    bought = forger.delivered()
    forger.edit("UPDATE purchases SET settle_wanted = 1 WHERE id = ?", bought.id)
    forger.append("settle_wanted", bought.id, by="research-agent")
    forger.stage.work(1)
    assert forger.world.chain.balance(forger.world.chain.provider) == ZERO
    named = f"(settle_wanted {bought.id}) was changed or moved"
    return Named(named, "audit row", paid=Usdc(ABOVE) + HONEST)


@forgery("what was signed taken out of the worker's limit")
def _(forger: DatabaseForger) -> Named:
    forger.stage.work()
    forger.edit("DELETE FROM audit WHERE event = 'link_signed'")
    for _ in range(6):
        forger.world.buy("45.00")
    return Named("are missing", "the worker's own limit", paid=Usdc("235.00"))


@forgery("the end of the log cut off")
def _(forger: DatabaseForger) -> Named:
    waiting = forger.waiting()
    forger.stage.work()
    forger.edit(
        "DELETE FROM audit WHERE seq >= (SELECT min(seq) FROM audit WHERE subject = ?)", waiting.id
    )
    forger.status(waiting)
    told = "the audit log is not the one that the worker has seen"
    named = f"purchase {waiting.id}: the audit log does not tell of it"
    return Named(named, told, paid=HONEST)


@forgery("a seal over it")
def _(forger: DatabaseForger) -> Named:
    waiting = forger.waiting()
    forger.append("purchase_approved", waiting.id, policy="0" * 64, reasons=[], limits=[])
    ((seq, digest),) = forger.world.rows("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1")
    forger.edit(
        "INSERT INTO seals (count, hash, at, public_key, signature) VALUES (?, ?, 1, ?, ?)",
        *(seq, digest, "1" * 64, "2" * 128),
    )
    forger.status(waiting)
    return Named(f"the seal of row {seq} was made by no worker", "audit row")


@pytest.mark.parametrize("name", FORGERIES)
def test_nobody_is_paid_by_whoever_writes_to_the_database(
    make_world: Callable[..., World], name: str
) -> None:
    stage = Stage(make_world)
    stage.world.buy(str(HONEST))
    named = FORGERIES[name](DatabaseForger(stage))
    assert named.words in stage.verified(), stage.verified()
    stage.work()
    stage.check(named.paid, named.told)
