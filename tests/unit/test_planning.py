"""The next action of a purchase follows from its steps and escrows alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.domain.chain.events import EMPTY, EscrowState
from coordinator.domain.chain.steps import Call, Receipt, Step, StepKind, StepStatus
from coordinator.domain.errors import ImpossibleState
from coordinator.domain.policy.tables import EscrowTerms
from coordinator.domain.purchase.lifecycle import OPEN, Status
from coordinator.domain.purchase.planning import Action, OpenPurchase, OwnEscrow, Plan, plan
from coordinator.domain.reasons import ReasonCode
from coordinator.domain.usdc import Usdc

APPROVED_AT = 1_000_000
TERMS = EscrowTerms()
LAST_MOMENT = APPROVED_AT + TERMS.create_within
DEADLINE = 2_000_000
WINDOW_ENDS = 3_000_000
A, B = "0x" + "aa" * 32, "0x" + "bb" * 32
S, E = Status, EscrowState
CLOSED = {E.SETTLED, E.CANCELLED}


def step(
    kind: StepKind,
    status: StepStatus = StepStatus.MINED,
    escrow_id: str = A,
    reason: str | None = None,
) -> Step:
    call = Call(kind=kind, to="0x", data="0x", gas_limit=1, escrow_id=escrow_id)
    return Step(id=1, nonce=1, call=call, status=status, revert_reason=reason)


def create(status: StepStatus = StepStatus.MINED, **values: Any) -> Step:
    return step(StepKind.CREATE, status, **values)


def link(status: StepStatus = StepStatus.MINED, **values: Any) -> Step:
    return step(StepKind.LINK, status, **values)


def escrow(
    state: EscrowState,
    escrow_id: str = A,
    *,
    linked: bool | None = None,
    window_ends: int | None = None,
) -> OwnEscrow:
    return OwnEscrow(
        escrow_id=escrow_id,
        state=state,
        linked=state not in EMPTY if linked is None else linked,
        amount=Usdc("25"),
        deadline=DEADLINE,
        window_ends=window_ends,
    )


def purchase(
    status: Status, *escrows: OwnEscrow, steps: tuple[Step, ...] = (), **changed: Any
) -> OpenPurchase:
    made = OpenPurchase(
        id="pur_1",
        status=status,
        agent="research-agent",
        provider="0x",
        provider_name="paper-api",
        amount=Usdc("25"),
        service=None,
        escrow_key="0x",
        approved_at=APPROVED_AT,
        settle="after_window",
        cancel_wanted=False,
        settle_wanted=False,
        stranded=None,
        key_known=False,
        escrows=escrows,
        steps=steps,
    )
    return replace(made, **changed)


def choose(
    one: OpenPurchase,
    *,
    paused: bool = False,
    early_settle: bool = False,
    disputing: bool = False,
    now: int = APPROVED_AT,
    chain_time: int = APPROVED_AT,
    final_number: int = 1_000,
) -> Plan:
    return plan(
        one,
        paused=paused,
        early_settle=early_settle,
        disputing=disputing,
        now=now,
        chain_time=chain_time,
        final_number=final_number,
        terms=TERMS,
    )


def code(chosen: Plan) -> ReasonCode | None:
    return chosen.reason.code if chosen.reason else None


# --- in flight ---


@pytest.mark.parametrize("status", [StepStatus.ALLOCATED, StepStatus.SIGNED])
@pytest.mark.parametrize("kind", StepKind)
def test_nothing_is_done_while_anything_is_in_flight(kind: StepKind, status: StepStatus) -> None:
    for one in (
        purchase(S.APPROVED),
        purchase(S.APPROVED, cancel_wanted=True),
        purchase(S.CREATED, escrow(E.CREATED)),
        purchase(S.FUNDED, escrow(E.FUNDED)),
        purchase(S.FUNDED, escrow(E.FUNDED), escrow(E.CREATED, B)),
        purchase(S.DELIVERED, escrow(E.DELIVERED), settle_wanted=True),
    ):
        moving = replace(one, steps=(create(), step(kind, status), link()))
        assert choose(moving, paused=True, now=2**40, chain_time=2**40) == Plan(Action.WAIT)


# --- not created yet ---


def test_an_approved_purchase_is_created() -> None:
    assert choose(purchase(S.APPROVED)) == Plan(Action.CREATE)


def test_a_purchase_is_created_up_to_the_last_moment_and_fails_after_it() -> None:
    assert choose(purchase(S.APPROVED), now=LAST_MOMENT) == Plan(Action.CREATE)
    late = choose(purchase(S.APPROVED), now=LAST_MOMENT + 1)
    assert (late.action, code(late)) == (Action.FAIL, ReasonCode.EXPIRED)


def test_a_paused_purchase_is_not_created_and_fails_when_its_time_is_over() -> None:
    assert choose(purchase(S.APPROVED), paused=True) == Plan(Action.WAIT)
    late = choose(purchase(S.APPROVED), paused=True, now=LAST_MOMENT + 1)
    assert (late.action, code(late)) == (Action.FAIL, ReasonCode.EXPIRED)


def test_a_purchase_that_is_cancelled_before_creation_ends_without_a_transaction() -> None:
    chosen = choose(purchase(S.APPROVED, cancel_wanted=True), now=LAST_MOMENT + 1)
    assert (chosen.action, code(chosen)) == (Action.FAIL, ReasonCode.CANCELLED)


def test_a_reverted_create_fails_the_purchase_with_the_contracts_words() -> None:
    steps = (create(StepStatus.REVERTED, reason="Kernel paused"),)
    chosen = choose(purchase(S.APPROVED, steps=steps))
    assert (chosen.action, code(chosen)) == (Action.FAIL, ReasonCode.REVERTED)
    assert chosen.reason is not None
    assert "Kernel paused" in chosen.reason.message


def test_a_revert_without_a_reason_says_so() -> None:
    chosen = choose(purchase(S.APPROVED, steps=(create(StepStatus.REVERTED),)))
    assert chosen.reason is not None
    assert "no reason was given" in chosen.reason.message


@pytest.mark.parametrize("status", [StepStatus.DISPLACED, StepStatus.MINED])
def test_a_create_that_did_not_last_is_made_again_four_times(status: StepStatus) -> None:
    for count in range(1, 5):
        one = purchase(S.APPROVED, steps=(create(status),) * count)
        assert choose(one) == Plan(Action.CREATE)
    chosen = choose(purchase(S.APPROVED, steps=(create(status),) * 5))
    assert (chosen.action, code(chosen)) == (Action.FAIL, ReasonCode.REVERTED)


def test_only_the_last_create_tells() -> None:
    steps = (create(StepStatus.REVERTED), create(StepStatus.DISPLACED))
    assert choose(purchase(S.APPROVED, steps=steps)) == Plan(Action.CREATE)


def test_a_purchase_that_waits_for_approval_is_left_alone() -> None:
    assert choose(purchase(S.AWAITING_APPROVAL), now=2**40) == Plan(Action.WAIT)


# --- created and empty ---


@pytest.mark.parametrize("state", sorted(EMPTY))
def test_an_empty_escrow_is_linked_up_to_its_deadline(state: EscrowState) -> None:
    one = purchase(S.CREATED, escrow(state), steps=(create(),))
    assert choose(one, chain_time=DEADLINE) == Plan(Action.LINK, A)


def test_the_time_to_create_does_not_matter_once_it_is_created() -> None:
    one = purchase(S.CREATED, escrow(E.CREATED), steps=(create(),))
    assert choose(one, now=2**40) == Plan(Action.LINK, A)


def test_an_empty_escrow_past_its_deadline_is_cancelled() -> None:
    chosen = choose(purchase(S.CREATED, escrow(E.CREATED)), chain_time=DEADLINE + 1)
    assert (chosen.action, chosen.escrow_id) == (Action.CANCEL, A)
    assert code(chosen) is ReasonCode.EXPIRED


def test_an_empty_escrow_is_cancelled_when_that_is_wanted() -> None:
    one = purchase(S.CREATED, escrow(E.QUOTED), cancel_wanted=True)
    chosen = choose(one, paused=True, chain_time=DEADLINE + 1)
    assert (chosen.action, chosen.escrow_id) == (Action.CANCEL, A)
    assert code(chosen) is ReasonCode.CANCELLED


def test_an_empty_escrow_is_cancelled_when_spending_is_paused() -> None:
    chosen = choose(purchase(S.CREATED, escrow(E.CREATED)), paused=True)
    assert (chosen.action, chosen.escrow_id) == (Action.CANCEL, A)
    assert code(chosen) is ReasonCode.PAUSED


@pytest.mark.parametrize(
    "reason",
    ["Escrow ID already used", "Transaction expired", "Kernel paused", "blacklisted", None],
)
def test_a_link_that_the_contract_refused_cancels(reason: str | None) -> None:
    steps = (create(), link(StepStatus.REVERTED, reason=reason))
    chosen = choose(purchase(S.CREATED, escrow(E.CREATED), steps=steps))
    assert (chosen.action, chosen.escrow_id) == (Action.CANCEL, A)
    assert code(chosen) is ReasonCode.REVERTED
    assert chosen.reason is not None
    assert (reason or "no reason was given") in chosen.reason.message


def test_a_link_that_missed_its_escrow_is_made_again_to_the_escrow_that_there_is() -> None:
    steps = (create(escrow_id=B), link(StepStatus.REVERTED, escrow_id=B, reason="Tx missing"))
    assert choose(purchase(S.CREATED, escrow(E.CREATED), steps=steps)) == Plan(Action.LINK, A)


@pytest.mark.parametrize("status", [StepStatus.DISPLACED, StepStatus.MINED])
def test_a_link_that_did_not_last_is_made_again(status: StepStatus) -> None:
    one = purchase(S.CREATED, escrow(E.CREATED), steps=(create(), link(status)))
    assert choose(one) == Plan(Action.LINK, A)


def test_a_fifth_missed_link_is_the_last() -> None:
    missed = link(StepStatus.REVERTED, escrow_id=B, reason="Tx missing")
    four = purchase(S.CREATED, escrow(E.CREATED), steps=(create(), *(missed,) * 4))
    five = purchase(S.CREATED, escrow(E.CREATED), steps=(create(), *(missed,) * 5))
    assert choose(four) == Plan(Action.LINK, A)
    chosen = choose(five)
    assert (chosen.action, chosen.escrow_id) == (Action.CANCEL, A)
    assert code(chosen) is ReasonCode.REVERTED


def test_of_several_empty_escrows_the_newest_is_linked() -> None:
    one = purchase(S.CREATED, escrow(E.CREATED, A), escrow(E.CREATED, B))
    assert choose(one) == Plan(Action.LINK, B)


def test_a_link_that_was_refused_for_an_older_escrow_does_not_cancel_the_newer_one() -> None:
    steps = (create(), link(StepStatus.REVERTED, escrow_id=A), create(escrow_id=B))
    one = purchase(S.CREATED, escrow(E.CREATED, A), escrow(E.CREATED, B), steps=steps)
    assert choose(one) == Plan(Action.LINK, B)


# --- twins ---


@pytest.mark.parametrize("twin", sorted(EMPTY))
@pytest.mark.parametrize("state", sorted(set(EscrowState) - EMPTY))
def test_an_empty_twin_of_a_linked_escrow_is_cancelled_first(
    state: EscrowState, twin: EscrowState
) -> None:
    linked, empty = escrow(state, A), escrow(twin, B)
    for escrows in ((linked, empty), (empty, linked)):
        one = purchase(S.FUNDED, *escrows, settle_wanted=True)
        for disputing in (False, True):
            chosen = choose(one, chain_time=2**40, disputing=disputing, paused=True)
            assert chosen == Plan(Action.CANCEL, B)


def test_a_cancelled_twin_is_left_alone() -> None:
    one = purchase(S.FUNDED, escrow(E.CANCELLED, B, linked=False), escrow(E.FUNDED, A))
    assert choose(one) == Plan(Action.WAIT)
    assert choose(one, chain_time=DEADLINE) == Plan(Action.RECLAIM, A)


# --- funded ---


def test_a_funded_escrow_is_reclaimed_at_its_deadline_exactly() -> None:
    one = purchase(S.FUNDED, escrow(E.FUNDED), steps=(create(), link()))
    assert choose(one, chain_time=DEADLINE - 1) == Plan(Action.WAIT)
    assert choose(one, chain_time=DEADLINE) == Plan(Action.RECLAIM, A)
    assert choose(one, chain_time=DEADLINE + 10**6) == Plan(Action.RECLAIM, A)


def test_the_reclaim_goes_by_the_chains_time_and_not_by_the_clock() -> None:
    one = purchase(S.FUNDED, escrow(E.FUNDED))
    assert choose(one, now=2**40, chain_time=DEADLINE - 1) == Plan(Action.WAIT)


def test_a_pause_does_not_stop_a_reclaim_or_a_settlement() -> None:
    funded = purchase(S.FUNDED, escrow(E.FUNDED))
    assert choose(funded, paused=True, chain_time=DEADLINE) == Plan(Action.RECLAIM, A)
    delivered = purchase(S.DELIVERED, escrow(E.DELIVERED, window_ends=WINDOW_ENDS))
    chosen = choose(delivered, paused=True, chain_time=WINDOW_ENDS + 1)
    assert chosen == Plan(Action.SETTLE, A)


@pytest.mark.parametrize("state", [E.STARTED, E.DISPUTED, E.SETTLED, E.CANCELLED])
def test_what_only_others_can_end_or_what_has_ended_is_left_alone(state: EscrowState) -> None:
    one = purchase(S.STARTED, escrow(state), settle_wanted=True, cancel_wanted=True)
    assert choose(one, chain_time=2**40, early_settle=True) == Plan(Action.WAIT)


def test_a_funded_escrow_is_not_cancelled_because_somebody_wants_it() -> None:
    one = purchase(S.FUNDED, escrow(E.FUNDED), cancel_wanted=True)
    assert choose(one) == Plan(Action.WAIT)


# --- delivered ---


def delivered(**changed: Any) -> OpenPurchase:
    return purchase(S.DELIVERED, escrow(E.DELIVERED, window_ends=WINDOW_ENDS), **changed)


def test_after_window_settles_once_the_window_is_over() -> None:
    assert choose(delivered(), chain_time=WINDOW_ENDS) == Plan(Action.WAIT)
    assert choose(delivered(), chain_time=WINDOW_ENDS + 1) == Plan(Action.SETTLE, A)


def test_on_delivery_settles_at_once_when_the_policy_allows_it_and_else_after_the_window() -> None:
    one = delivered(settle="on_delivery")
    assert choose(one, early_settle=True) == Plan(Action.SETTLE, A)
    assert choose(one, early_settle=False) == Plan(Action.WAIT)
    assert choose(one, chain_time=WINDOW_ENDS + 1) == Plan(Action.SETTLE, A)


def test_manual_never_settles_by_itself() -> None:
    assert choose(delivered(settle="manual"), chain_time=2**40) == Plan(Action.WAIT)


@pytest.mark.parametrize("settle", ["after_window", "on_delivery", "manual"])
def test_an_ordered_settlement_happens_at_once(settle: str) -> None:
    assert choose(delivered(settle=settle, settle_wanted=True)) == Plan(Action.SETTLE, A)


def test_a_window_that_is_not_known_is_not_over() -> None:
    one = purchase(S.DELIVERED, escrow(E.DELIVERED, window_ends=None))
    assert choose(one, chain_time=2**40) == Plan(Action.WAIT)


def test_a_purchase_that_is_about_to_be_disputed_is_not_settled() -> None:
    one = delivered(settle_wanted=True)
    chosen = choose(one, disputing=True, early_settle=True, chain_time=WINDOW_ENDS + 1)
    assert chosen == Plan(Action.WAIT)


# --- in general ---

escrows = st.builds(
    escrow,
    st.sampled_from(EscrowState),
    st.sampled_from([A, B]),
    window_ends=st.one_of(st.none(), st.just(WINDOW_ENDS)),
)
steps = st.builds(
    step,
    st.sampled_from([StepKind.CREATE, StepKind.LINK, StepKind.CANCEL, StepKind.SETTLE]),
    st.sampled_from(StepStatus),
    st.sampled_from([A, B]),
    st.sampled_from([None, "Tx missing"]),
)
purchases = st.builds(
    lambda status, held, sent, settle, cancel, order: purchase(
        status, *held, steps=tuple(sent), settle=settle, cancel_wanted=cancel, settle_wanted=order
    ),
    st.sampled_from(sorted(OPEN)),
    st.lists(escrows, max_size=3, unique_by=lambda one: one.escrow_id).filter(
        lambda held: sum(one.linked for one in held) <= 1
    ),
    st.lists(steps, max_size=7),
    st.sampled_from(["after_window", "on_delivery", "manual"]),
    st.booleans(),
    st.booleans(),
)
moments = st.sampled_from([0, APPROVED_AT, LAST_MOMENT + 1, DEADLINE, DEADLINE + 1, 2**40])


@given(purchases, st.booleans(), st.booleans(), st.booleans(), moments, moments)
def test_no_plan_pays_twice_or_touches_what_has_ended(
    one: OpenPurchase, paused: bool, early: bool, disputing: bool, now: int, chain_time: int
) -> None:
    linked = any(held.linked for held in one.escrows)
    proved = any(s.kind is StepKind.LINK and s.status is StepStatus.MINED for s in one.steps)
    try:
        chosen = choose(
            one,
            paused=paused,
            early_settle=early,
            disputing=disputing,
            now=now,
            chain_time=chain_time,
        )
    except ImpossibleState:
        assert proved
        assert not linked
        return
    meant = next((held for held in one.escrows if held.escrow_id == chosen.escrow_id), None)
    if chosen.action is not Action.WAIT:
        assert not any(sent.in_flight for sent in one.steps)
    if chosen.action in (Action.CREATE, Action.LINK):
        assert not linked
        assert not paused
        assert not one.cancel_wanted
    if chosen.action in (Action.CREATE, Action.FAIL):
        assert chosen.escrow_id is None
        assert not [held for held in one.escrows if held.state in EMPTY or held.linked]
    else:
        assert (meant is None) == (chosen.action is Action.WAIT)
    if meant is not None:
        assert meant.state not in CLOSED
        assert (meant.state in EMPTY) == (chosen.action in (Action.LINK, Action.CANCEL))
    if chosen.action is Action.FAIL or (chosen.action is Action.CANCEL and not linked):
        assert chosen.reason is not None


def test_a_funding_that_the_books_do_not_have_stops_rather_than_pays_again() -> None:
    one = purchase(Status.APPROVED, steps=(step(StepKind.LINK, StepStatus.MINED),))
    with pytest.raises(ImpossibleState, match="an endpoint left out logs"):
        choose(one)


@pytest.mark.parametrize(("final_number", "waits"), [(6, True), (7, False)])
def test_logs_left_out_are_waited_for_until_they_were_read_twice(
    final_number: int, waits: bool
) -> None:
    receipt = Receipt(
        tx_hash="0x",
        block_number=7,
        block_hash="0x",
        succeeded=True,
        gas_used=1,
        effective_gas_price=1,
        l1_fee_wei=0,
    )
    link = replace(step(StepKind.LINK, StepStatus.MINED), receipt=receipt)
    one = purchase(Status.APPROVED, steps=(link,))
    if waits:
        assert choose(one, final_number=final_number).action is Action.WAIT
    else:
        with pytest.raises(ImpossibleState, match="an endpoint left out logs"):
            choose(one, final_number=final_number)


def test_creates_that_others_spoiled_do_not_use_up_the_retries() -> None:
    missed = create(StepStatus.DISPLACED, reason="Tx missing")
    lost = create(StepStatus.DISPLACED)
    assert choose(purchase(S.APPROVED, steps=(missed,) * 19 + (lost,) * 4)).action is Action.CREATE
    assert choose(purchase(S.APPROVED, steps=(lost,) * 5)).action is Action.FAIL
    # Whoever has the key may move the count in every block: gas is not burnt for ever.
    assert choose(purchase(S.APPROVED, steps=(missed,) * 20)).action is Action.FAIL
