"""What a deciding host writes pays no more than people signed, or need not sign."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final, NamedTuple

import pytest

from coordinator.domain.errors import ConfigurationError
from coordinator.domain.policy.approvals import Approver
from coordinator.domain.policy.policy import Policy
from coordinator.domain.purchase.proposal import Proposal, ProposalKind
from coordinator.domain.statements.signed import GivenSignature
from coordinator.domain.usdc import ZERO, Usdc
from coordinator.ledger.spend.bonds import hold_bond
from tests.integration.forger.host_forger import HostForger
from tests.integration.forger.stage import HONEST, THIEF, Stage
from tests.integration.signers_of_approvers import key_of, signing
from tests.integration.stores import by_default, on_either
from tests.integration.world import AGENT, World

pytestmark = on_either

ABOVE: Final = "60.00"
UNSIGNED: Final[dict[str, dict[str, Any]]] = {"alice": {}, "bob": {}}
WAITS_AGAIN: Final = "approval_waits"


class Told(NamedTuple):
    """What people are told, and the USDC that the forgery may have paid within the rules."""

    words: str
    paid: Usdc = ZERO
    #: Whether everything stops, what is honest too.
    stops: bool = False


Forgery = Callable[[HostForger], Told]
FORGERIES: Final[dict[str, Forgery]] = {}


def forgery(name: str) -> Callable[[Forgery], Forgery]:
    def add(function: Forgery) -> Forgery:
        FORGERIES[name] = function
        return function

    return add


def approval(forger: HostForger, **terms: Any) -> dict[str, Any]:
    made = {"id": f"apr_{secrets.token_hex(10)}", "required": 2}
    return made | {"expires_at": forger.now + 86_400} | terms


def approval_id(of: str) -> str:
    return "apr_" + of.removeprefix("pur_")


def with_provider(forger: HostForger, name: str) -> Policy:
    """The policy with the thief as the provider of this name."""
    document = json.loads(json.dumps(forger.stage.policy().document()))
    document["providers"][name] = {"address": THIEF, "service": "papers"}
    return Policy.from_dict(document)


def with_agent(forger: HostForger, name: str, **values: str) -> Policy:
    document = json.loads(json.dumps(forger.stage.policy().document()))
    document["agents"][name] |= values
    return Policy.from_dict(document)


def in_force(forger: HostForger, policy: Policy, *names: str) -> Proposal:
    """Have people sign a version; its proposal."""
    stage = forger.stage
    stage.people.put_in_force(Policy.from_dict(policy.document()), *names)
    stage.world.round()
    query = "SELECT id FROM proposals WHERE kind = 'policy' AND status = 'approved'"
    made = [stage.world.coordinator.proposal(of) for (of,) in stage.world.rows(query)]
    return next(one for one in made if one.terms["hash"] == stage.policy().hash)


def unpaused(forger: HostForger, **body: str) -> None:
    forger.edit("DELETE FROM pauses")
    forger.write("unpaused", "organisation", by="alice", reason="a forgery", **body)


def signed_unpause(forger: HostForger) -> str:
    """An unpause that two have signed, and that was carried out; its proposal."""
    world, people = forger.stage.world, forger.stage.people
    assert world.coordinator.pause("stop", by="olga")
    world.coordinator.unpause("looked at it", by="alice")
    (made,) = world.coordinator.proposals()
    for name in ("alice", "bob"):
        people.approve_proposal(made.id, name)
    forger.stage.work()
    return made.id


def withdrawal_asked(forger: HostForger) -> Proposal:
    """A withdrawal that was proposed, and that nobody has approved."""
    terms = {"recipient": THIEF, "amount": Usdc("5.00").base_units}
    coordinator = forger.stage.world.coordinator
    coordinator.wiring.treasury.withdraw(to=THIEF, amount="5.00", approver="alice", reason="x")
    (made,) = coordinator.proposals()
    assert dict(made.terms) == terms
    return made


def withdrawal(forger: HostForger, said: dict[str, dict[str, Any]]) -> Proposal:
    terms = {"recipient": THIEF, "amount": Usdc("5.00").base_units}
    made = forger.propose(ProposalKind.WITHDRAW, terms, said)
    forger.order(made)
    return made


def as_anybody(forger: HostForger, event: str, subject: str, **body: Any) -> None:
    """Append a row with the host's own key that its code refuses to write."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("coordinator.ledger.audit.log.may_write", lambda role, event: True)
        forger.write(event, subject, **body)


# Purchases above the threshold.


@forgery("approved by nobody")
def _(forger: HostForger) -> Told:
    return Told(f"{WAITS_AGAIN} {approval_id(forger.purchase(ABOVE))}")


@forgery("approved without signatures")
def _(forger: HostForger) -> Told:
    forger.purchase(ABOVE, approval=approval(forger), said=UNSIGNED)
    return Told("alice's does not: a signed statement is missing")


@forgery("signatures of another purchase")
def _(forger: HostForger) -> Told:
    said = forger.words_of(forger.stage.approved(ABOVE))
    forger.purchase(ABOVE, approval=approval(forger), said=said)
    return Told("alice's does not: another statement was signed: its id is", Usdc(ABOVE))


@forgery("one approval for two purchases")
def _(forger: HostForger) -> Told:
    signed = forger.stage.approved(ABOVE)
    same = forger.approval_of(signed)
    forger.purchase(ABOVE, approval=same, said=forger.words_of(signed))
    return Told("another statement was signed: its id is", Usdc(ABOVE))


@forgery("an amount raised after it was signed")
def _(forger: HostForger) -> Told:
    of = forger.purchase("90.00", approval=approval(forger))
    lower = replace(forger.statement_of(of), amount=Usdc(ABOVE).base_units)
    forger.approve(of, forger.signed(lower, "alice", "bob"))
    return Told("its amount is 60000000, not 90000000")


@forgery("another payee after it was signed")
def _(forger: HostForger) -> Told:
    other = forger.stage.world.chain.other_provider
    of = forger.purchase(ABOVE, approval=approval(forger), provider=other, name="other-api")
    to_us = replace(forger.statement_of(of), account=forger.stage.world.chain.provider)
    forger.approve(of, forger.signed(to_us, "alice", "bob"))
    return Told("its account is")


@forgery("other escrow terms after it was signed")
def _(forger: HostForger) -> Told:
    of = forger.purchase(ABOVE, approval=approval(forger), settle="on_delivery")
    signed = forger.statement_of(of)
    later = replace(signed, terms=signed.terms.replace("on_delivery", "after_window"))
    forger.approve(of, forger.signed(later, "alice", "bob"))
    return Told("settle after_window', not")


@forgery("signatures for another chain")
def _(forger: HostForger) -> Told:
    of = forger.purchase(ABOVE, approval=approval(forger))
    said = forger.signed(forger.statement_of(of), "alice", "bob", chain_id=8453)
    forger.approve(of, said)
    return Told("signature of this statement for this treasury and chain")


@forgery("signatures for another treasury")
def _(forger: HostForger) -> Told:
    of = forger.purchase(ABOVE, approval=approval(forger))
    said = forger.signed(forger.statement_of(of), "alice", "bob", treasury=THIEF)
    forger.approve(of, said)
    return Told("signature of this statement for this treasury and chain")


@forgery("one signature under two names")
def _(forger: HostForger) -> Told:
    of = forger.purchase(ABOVE, approval=approval(forger))
    said = forger.signed(forger.statement_of(of), "alice")
    forger.approve(of, {"alice": said["alice"], "bob": said["alice"]})
    return Told("is not a credential of bob in the policy in force")


@forgery("signatures of its own")
def _(forger: HostForger) -> Told:
    of = forger.purchase(ABOVE, approval=approval(forger))
    said = forger.signed(forger.statement_of(of), "mallory", "dora")
    forger.approve(of, said)
    return Told("mallory's does not: the policy in force has no such approver")


@forgery("signatures kept back until they had expired")
def _(forger: HostForger) -> Told:
    ended = forger.now - 7_200
    of = forger.purchase(ABOVE, approval=approval(forger, expires_at=ended), at=ended - 60)
    said = forger.signed(forger.statement_of(of), "alice", "bob")
    # The rows say that it was approved just now, and that it is not too late.
    forger.approve(of, said)
    return Told("what was signed has expired")


@forgery("a refusal taken for a yes")
def _(forger: HostForger) -> Told:
    of = forger.purchase(ABOVE, approval=approval(forger))
    no = replace(forger.statement_of(of), decision="rejected")
    forger.approve(of, forger.signed(no, "alice", "bob"))
    return Told("its decision is 'rejected', not 'approved'")


@forgery("signatures of a removed approver")
def _(forger: HostForger) -> Told:
    of = forger.purchase(ABOVE, approval=approval(forger))
    said = forger.signed(forger.statement_of(of), "alice", "bob")
    policy = forger.stage.policy()
    asked = policy.approvals.model_copy(update={"approvers": signing("alice", "carol", "dora")})
    changed = Policy.from_dict(policy.model_copy(update={"approvals": asked}).document())
    forger.stage.people.put_in_force(changed, "alice", "carol")
    forger.approve(of, said)
    return Told("bob's does not: the policy in force has no such approver")


@forgery("two approvals where the tier takes three")
def _(forger: HostForger) -> Told:
    of = forger.purchase("160.00", approval=approval(forger), agent="data-agent")
    said = forger.signed(forger.statement_of(of), "alice", "bob")
    forger.approve(of, said)
    return Told("2 of 3 approvals count")


@forgery("the amount of an approved purchase paid again")
def _(forger: HostForger) -> Told:
    stage, now = forger.stage, forger.now
    signed = stage.approved(ABOVE)
    stage.work()
    forger.edit("UPDATE purchases SET status='approved', approved_at=? WHERE id=?", now, signed.id)
    forger.write("purchase_approved", signed.id, before="funded")
    return Told("", Usdc(ABOVE))


# The policy.


@forgery("a payee that no approver has signed")
def _(forger: HostForger) -> Told:
    forger.activate(with_provider(forger, "new"))
    of = forger.ask("10.00", provider="new")
    return Told(f"{of.id} 10.00 USDC: the signed policy has no provider {THIEF}")


@forgery("another address for the provider of the same name")
def _(forger: HostForger) -> Told:
    forger.activate(with_provider(forger, "paper-api"))
    of = forger.ask("10.00")
    return Told(f"{of.id} 10.00 USDC: the signed policy has no provider {THIEF}")


@forgery("a threshold raised")
def _(forger: HostForger) -> Told:
    forger.activate(with_agent(forger, AGENT, approval_threshold="unlimited"))
    return Told(f"{WAITS_AGAIN} {approval_id(forger.ask(ABOVE).id)}")


@forgery("tiers removed")
def _(forger: HostForger) -> Told:
    policy = forger.stage.policy()
    asked = policy.approvals.model_copy(update={"tiers": []})
    forger.activate(policy.model_copy(update={"approvals": asked}))
    of = forger.ask("160.00", agent="data-agent")
    return Told(f"{WAITS_AGAIN} {approval_id(of.id)}")


@forgery("an agent added")
def _(forger: HostForger) -> Told:
    policy = forger.stage.policy()
    agents = policy.agents | {"mallory": policy.agents["data-agent"]}
    forger.activate(policy.model_copy(update={"agents": agents}))
    forger.ask("10.00", agent="mallory")
    return Told("the signed policy has no agent mallory that is enabled")


@forgery("an approver of its own")
def _(forger: HostForger) -> Told:
    policy = forger.stage.policy()
    asked = policy.approvals.model_copy(
        update={"approvers": signing("mallory", "dora"), "tiers": []}
    )
    forger.activate(policy.model_copy(update={"approvals": asked}))
    waiting = forger.ask(ABOVE)
    for name in ("mallory", "dora"):
        assert forger.stage.people.approve(waiting.approval_id or "", name).done
    return Told("mallory's does not: the policy in force has no such approver")


@forgery("its own key of a host as an approver")
def _(forger: HostForger) -> Told:
    policy = forger.stage.policy()
    # A host's key is no account: it can be no credential, and whoever has none can't sign.
    asked = policy.approvals.model_copy(
        update={
            "approvers": {"mallory": Approver()},
            "signatures": "optional",
            "required": 1,
            "tiers": [],
        }
    )
    forger.activate(
        policy.model_copy(
            update={
                "approvals": asked,
            }
        )
    )
    waiting = forger.ask(ABOVE)
    coordinator = forger.stage.world.coordinator
    assert coordinator.approve(waiting.approval_id or "", approver="mallory").done
    return Told("mallory's does not: the policy in force has no such approver")


@forgery("a draft that was signed for another version before it")
def _(forger: HostForger) -> Told:
    """Approvers have signed it, and then another one, which does not have the payee."""
    people, coordinator = forger.stage.people, forger.stage.world.coordinator
    lax = with_provider(forger, "new")
    draft = coordinator.draft_policy(lax, by="olga", reason="a test")
    said = forger.sign_proposal(draft, "alice", "bob")
    alerts = forger.stage.policy().alerts.model_copy(update={"thresholds": [50]})
    strict = forger.stage.policy().model_copy(update={"alerts": alerts})
    people.put_in_force(Policy.from_dict(strict.document()), "alice", "bob")
    forger.agree(draft.id, said)
    forger.activate(lax, draft.id)
    forger.ask("10.00", provider="new")
    return Told(f"the signed policy has no provider {THIEF}")


@forgery("a signed version in force a second time")
def _(forger: HostForger) -> Told:
    before, lax = forger.stage.policy(), with_provider(forger, "new")
    draft = in_force(forger, lax, "alice", "bob")
    in_force(forger, before, "alice", "carol")
    # It replaces the very version that it was signed to replace.
    forger.activate(lax, draft.id)
    forger.ask("10.00", provider="new")
    return Told(f"the signed policy has no provider {THIEF}")


# Pauses.


@forgery("an unpause that nobody signed")
def _(forger: HostForger) -> Told:
    forger.stage.world.coordinator.pause("stop", by="olga")
    forger.stage.work(1)
    unpaused(forger)
    return Told("does not act on unpaused of organisation: no approver", stops=True)


@forgery("an unpause that was signed for an earlier pause")
def _(forger: HostForger) -> Told:
    used = signed_unpause(forger)
    assert forger.stage.world.coordinator.pause("stop", by="olga")
    forger.stage.work(1)
    unpaused(forger, proposal=used)
    forger.purchase("10.00")
    return Told("of organisation: it was signed for an earlier pause", HONEST, True)


# Orders about what the treasury has.


@forgery("a withdrawal that nobody signed")
def _(forger: HostForger) -> Told:
    made = withdrawal(forger, UNSIGNED)
    return Told(f"failed {made.id}")


@forgery("a withdrawal of another amount")
def _(forger: HostForger) -> Told:
    asked = withdrawal_asked(forger)
    said = forger.sign_proposal(asked, "alice", "bob")
    forger.agree(asked.id, said)
    forger.order(asked, amount=Usdc("500").base_units)
    return Told(f"failed {asked.id} approvers have signed")


@forgery("a signed withdrawal under another id")
def _(forger: HostForger) -> Told:
    signed = withdrawal_asked(forger)
    said = forger.sign_proposal(signed, "alice", "bob")
    again = withdrawal(forger, said)
    return Told(f"failed {again.id}")


@forgery("a withdrawal that was rejected")
def _(forger: HostForger) -> Told:
    asked = withdrawal_asked(forger)
    said = forger.sign_proposal(asked, "alice", "carol")
    coordinator = forger.stage.world.coordinator
    signature = GivenSignature(
        signature=key_of("bob").sign_typed(coordinator.statement(asked.id, reason="no").message)
    )
    coordinator.reject_proposal(asked.id, approver="bob", reason="no", signature=signature)
    forger.agree(asked.id, said)
    forger.order(asked)
    return Told(f"failed {asked.id} rows of the audit log about", stops=True)


@forgery("a withdrawal whose signatures were kept back until they had expired")
def _(forger: HostForger) -> Told:
    asked = withdrawal_asked(forger)
    said = forger.sign_proposal(asked, "alice", "bob")
    forger.stage.world.pass_time(2 * 86_400 + 1)
    forger.agree(asked.id, said)
    forger.order(asked)
    return Told(f"failed {asked.id} what was signed has expired", stops=True)


@forgery("an early settle of a large purchase that nobody signed")
def _(forger: HostForger) -> Told:
    stage, world = forger.stage, forger.stage.world
    bought = stage.approved(ABOVE)
    stage.work()
    world.chain.deliver(world.get(bought).escrow_id)
    stage.work(1)
    forger.edit("UPDATE purchases SET settle_wanted = 1 WHERE id = ?", bought.id)
    forger.write("settle_wanted", bought.id, by=AGENT)
    stage.work()
    assert world.chain.balance(world.chain.provider) == ZERO
    return Told("no approver has signed that it is settled early", Usdc(ABOVE))


@forgery("the bond of a dispute that nobody signed")
def _(forger: HostForger) -> Told:
    stage, world = forger.stage, forger.stage.world
    bought = stage.approved(ABOVE)
    stage.work()
    world.chain.deliver(world.get(bought).escrow_id)
    stage.work(1)
    bond = Usdc("3.00")
    with forger.host.transactions.write() as tx:
        hold_bond(tx, bought.id, bond, by="mallory", why="a forgery", now=forger.now)
    return Told("mallory is not an approver", Usdc(ABOVE))


# The log.


@forgery("purchases just below the threshold until the day's limit")
def _(forger: HostForger) -> Told:
    for _ in range(6):
        forger.purchase("49.00")
    return Told("the worker's own limit leaves 44.00 USDC", Usdc("196.00"))


@forgery("a row of the worker")
def _(forger: HostForger) -> Told:
    of = forger.purchase(ABOVE)
    with pytest.raises(ConfigurationError):
        forger.write("create_signed", of, nonce=0, tx_hash="0x")
    as_anybody(forger, "create_signed", of, nonce=0, tx_hash="0x")
    return Told("create_signed", stops=True)


@forgery("a row without what it should say")
def _(forger: HostForger) -> Told:
    of = forger.purchase(ABOVE, approval=approval(forger))
    forger.write("purchase_approved_by", of, nonsense=True)
    return Told("can't be read", stops=True)


@forgery("the log cut off, and what people signed long ago carried out again")
def _(forger: HostForger) -> Told:
    stage = forger.stage
    used = signed_unpause(forger)
    assert stage.left() == HONEST
    ((head,),) = stage.world.rows("SELECT max(seq) FROM audit")
    forger.cut(head - 1)
    stage.work(1)
    # The log is accepted, and the policy in force, by what was signed for an earlier time.
    unpaused(forger, proposal=used)
    stage.work(1)
    ((policy, said),) = stage.world.rows(
        "SELECT subject, body FROM audit WHERE event = 'policy_signed'"
    )
    forger.write("policy_signed", policy, **json.loads(said))
    for _ in range(5):
        forger.purchase("49.00")
    return Told("audit log is not the one that the worker has seen", HONEST, stops=True)


@forgery("the log cut off where the worker's own state is lost")
def _(forger: HostForger) -> Told:
    stage = forger.stage
    stage.work()
    ((first,),) = stage.world.rows("SELECT min(seq) FROM audit WHERE event LIKE 'create_%'")
    forger.cut(first - 1)
    # What the worker kept is gone as well: its host was set up anew.
    stage.world.change_host()
    stage.world.restart()
    stage.world.edit("UPDATE leases SET expires_at_ms = 0")
    for _ in range(3):
        forger.purchase("45.00")
    return Told("it was restored, or somebody else has the key", HONEST, stops=True)


# Of each kind one or two; the others differ in what is forged, and run in campaigns.
DEFAULT: Final = frozenset(
    {
        "approved without signatures",
        "one approval for two purchases",
        "an amount raised after it was signed",
        "another payee after it was signed",
        "signatures for another treasury",
        "signatures kept back until they had expired",
        "a refusal taken for a yes",
        "signatures of a removed approver",
        "a payee that no approver has signed",
        "a threshold raised",
        "an approver of its own",
        "a draft that was signed for another version before it",
        "an unpause that was signed for an earlier pause",
        "a withdrawal of another amount",
        "a withdrawal that was rejected",
        "an early settle of a large purchase that nobody signed",
        "the bond of a dispute that nobody signed",
        "purchases just below the threshold until the day's limit",
        "a row without what it should say",
        "the log cut off where the worker's own state is lost",
    }
)


def test_the_default_forgeries_are_there() -> None:
    assert FORGERIES.keys() > DEFAULT and len(DEFAULT) >= 12


@pytest.mark.parametrize("name", by_default(FORGERIES, DEFAULT))
def test_a_host_has_paid_only_what_needs_no_signature(
    make_world: Callable[..., World], name: str
) -> None:
    stage = Stage(make_world)
    forger = HostForger(stage)
    honest = stage.world.buy(str(HONEST))
    told = FORGERIES[name](forger)
    stage.work()
    stage.check(told.paid if told.stops else told.paid + HONEST, told.words)
    assert told.stops or stage.world.status(honest) == "funded"
