"""How often the chain is looked at: by blocks while something depends on it, else seldom."""

from __future__ import annotations

from typing import Any

import pytest

from coordinator.domain.chain.events import Block
from coordinator.domain.ports import Observation
from coordinator.domain.usdc import Usdc
from coordinator.executor.tempo import Pace, Tempo


class Ticks:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def ticks() -> Ticks:
    return Ticks()


def seen(number: int, at: int) -> Observation:
    terms: dict[str, Any] = {"usdc_balance": Usdc("1"), "usdc_allowance": Usdc("1")}
    return Observation(
        account="0x" + "a1" * 20,
        head=Block(number, f"0x{number:064x}", at),
        readable=number,
        final=None,
        base_fee_wei=1,
        nonce=0,
        create_nonce=0,
        gas_balance_wei=1,
        fees=None,
        rail_trouble=None,
        **terms,
    )


def round_done(tempo: Tempo, seen: Observation, pace: Pace, *, final: bool) -> None:
    tempo.followed(seen, final=final)
    tempo.round_done(pace)


def test_the_first_round_is_due_at_once(ticks: Ticks) -> None:
    tempo = Tempo(ticks=ticks, local=False)
    assert tempo.round_is_due and tempo.final_is_due and tempo.seconds_left == 0


def test_while_busy_the_next_head_is_asked_for_when_it_is_expected(ticks: Ticks) -> None:
    tempo = Tempo(ticks=ticks, local=False)
    round_done(tempo, seen(10, 5000), Pace.BUSY, final=True)
    ticks.now += 4
    round_done(tempo, seen(11, 5004), Pace.BUSY, final=False)  # four seconds a block

    assert tempo.seconds_left == pytest.approx(4 - 4 / 12)
    ticks.now += 3.7
    assert tempo.seconds_left == 0 and not tempo.round_is_due
    tempo.looked()
    assert tempo.seconds_left == pytest.approx(0.3)  # the round's span comes before the eighth


def test_a_head_that_was_seen_late_makes_the_next_expected_no_later(ticks: Ticks) -> None:
    tempo = Tempo(ticks=ticks, local=False)
    for number in (10, 11):
        round_done(tempo, seen(number, 5000 + 2 * number), Pace.BUSY, final=True)
        ticks.now += 2
    ticks.now += 11.5  # with nothing to do meanwhile; block 17 is a second and a half old
    round_done(tempo, seen(17, 5034), Pace.BUSY, final=False)

    assert tempo.seconds_left == pytest.approx(0.5 - 2 / 12)


def test_a_round_is_due_though_no_look_found_anything(ticks: Ticks) -> None:
    for pace, span in ((Pace.BUSY, 4), (Pace.OPEN, 30), (Pace.IDLE, 70)):
        tempo = Tempo(ticks=ticks, local=False)
        round_done(tempo, seen(10, 5000), pace, final=True)
        ticks.now += span - 0.1
        tempo.looked()
        assert not tempo.round_is_due
        ticks.now += 0.2
        assert tempo.round_is_due and tempo.seconds_left == 0


def test_with_nothing_to_do_a_day_takes_few_looks(ticks: Ticks) -> None:
    tempo = Tempo(ticks=ticks, local=False)
    rounds = looks = finals = 0
    end = ticks.now + 86_400
    while ticks.now < end:
        if tempo.round_is_due:
            final = tempo.final_is_due
            round_done(tempo, seen(int(ticks.now), int(ticks.now)), Pace.IDLE, final=final)
            rounds, finals = rounds + 1, finals + final
        else:
            tempo.looked()
            looks += 1
        assert tempo.seconds_left <= 14
        ticks.now += tempo.seconds_left
    assert rounds <= 86_400 / 70 + 1 and looks <= 86_400 / 14 and finals <= 86_400 / 300 + 1


def test_whoever_pays_by_the_call_sets_the_least_span(ticks: Ticks) -> None:
    tempo = Tempo(ticks=ticks, local=False, poll_seconds=30)
    for pace, span in ((Pace.BUSY, 30), (Pace.OPEN, 30), (Pace.IDLE, 30)):
        round_done(tempo, seen(10, 5000), pace, final=True)
        assert tempo.seconds_left == span


def test_a_local_chain_is_looked_at_all_the_time(ticks: Ticks) -> None:
    tempo = Tempo(ticks=ticks, local=True)
    round_done(tempo, seen(10, 5000), Pace.IDLE, final=True)
    assert tempo.final_is_due
    ticks.now += 0.1
    assert tempo.round_is_due


@pytest.mark.parametrize(("first", "second"), [((10, 5000), (11, 5000)), ((10, 5000), (11, 9000))])
def test_absurd_block_times_are_kept_within_bounds(
    ticks: Ticks, first: tuple[int, int], second: tuple[int, int]
) -> None:
    tempo = Tempo(ticks=ticks, local=False)
    round_done(tempo, seen(*first), Pace.BUSY, final=True)
    round_done(tempo, seen(*second), Pace.BUSY, final=True)
    assert 0.1 < tempo.seconds_left <= 4


def test_what_was_seen_is_gone_on_with_for_a_few_seconds_alone(ticks: Ticks) -> None:
    for pace in Pace:
        tempo = Tempo(ticks=ticks, local=False)
        assert not tempo.is_fresh
        round_done(tempo, seen(10, 5000), pace, final=True)
        ticks.now += 3.9
        assert tempo.is_fresh
        ticks.now += 0.2
        assert not tempo.is_fresh


@pytest.mark.parametrize("pace", [*Pace])
def test_rounds_at_an_unmoved_head_put_nothing_off(ticks: Ticks, pace: Pace) -> None:
    tempo = Tempo(ticks=ticks, local=False)
    round_done(tempo, seen(10, 5000), pace, final=True)
    for _ in range(80):
        ticks.now += 1
        tempo.round_done(pace)
    assert tempo.round_is_due and not tempo.is_fresh and tempo.seconds_left == 0


def test_what_is_final_becomes_due_whatever_rounds_there_are(ticks: Ticks) -> None:
    tempo = Tempo(ticks=ticks, local=False)
    round_done(tempo, seen(10, 5000), Pace.BUSY, final=True)
    for number in range(11, 70):
        ticks.now += 2
        assert not tempo.final_is_due
        round_done(tempo, seen(number, 5000 + 2 * number), Pace.BUSY, final=False)
    ticks.now += 2
    assert tempo.final_is_due
