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
        treasury="0x" + "a1" * 20,
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

    assert tempo.seconds_left == pytest.approx(4 - 4 / 48)
    ticks.now += 3.95
    assert tempo.seconds_left == 0 and not tempo.round_is_due
    tempo.looked()
    assert tempo.seconds_left == pytest.approx(0.05)  # the round's span comes before the twelfth


def test_the_first_look_for_a_head_is_early_and_the_second_as_much_late(ticks: Ticks) -> None:
    tempo = Tempo(ticks=ticks, local=False)
    for number in (10, 11):
        round_done(tempo, seen(number, 5000 + 2 * number), Pace.BUSY, final=True)
        ticks.now += 2 * (number == 10)

    for left in (2 - 2 / 48, 4 / 48, 2 / 12, 2 / 12):
        assert tempo.seconds_left == pytest.approx(left, abs=1e-4)
        ticks.now += left + 1e-6
        tempo.looked()


def test_a_head_that_came_while_a_long_round_went_on_is_looked_for_at_its_end(
    ticks: Ticks,
) -> None:
    tempo = Tempo(ticks=ticks, local=False)
    tempo.round_begins()
    round_done(tempo, seen(10, 5000), Pace.BUSY, final=True)
    ticks.now += 2
    tempo.round_begins()
    ticks.now += 2.5
    round_done(tempo, seen(11, 5002), Pace.BUSY, final=False)

    assert tempo.seconds_left == 0 and not tempo.round_is_due
    tempo.looked()
    assert tempo.seconds_left == pytest.approx(2 / 12)


def test_the_next_head_is_expected_by_when_the_last_was_read(ticks: Ticks) -> None:
    tempo = Tempo(ticks=ticks, local=False)
    for number in (10, 11):
        tempo.round_begins()
        ticks.now += 0.8  # to book what came
        round_done(tempo, seen(number, 5000 + 2 * number), Pace.BUSY, final=True)
        ticks.now += 1.2 * (number == 10)

    assert tempo.seconds_left == pytest.approx(1.2 - 2 / 48)


def test_a_head_that_was_seen_late_makes_the_next_expected_no_later(ticks: Ticks) -> None:
    tempo = Tempo(ticks=ticks, local=False)
    for number in (10, 11):
        round_done(tempo, seen(number, 5000 + 2 * number), Pace.BUSY, final=True)
        ticks.now += 2
    ticks.now += 11.5  # with nothing to do meanwhile; block 17 is a second and a half old
    round_done(tempo, seen(17, 5034), Pace.BUSY, final=False)

    assert tempo.seconds_left == pytest.approx(0.5 - 2 / 48)


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


def busy(ticks: Ticks) -> Tempo:
    """After block 11, which a subscription had announced; two seconds a block."""
    tempo = Tempo(ticks=ticks, local=False)
    round_done(tempo, seen(10, 5000), Pace.BUSY, final=True)
    ticks.now += 2
    tempo.announced(11, f"0x{11:064x}")
    round_done(tempo, seen(11, 5002), Pace.BUSY, final=False)
    return tempo


def test_a_subscription_that_is_right_spares_every_look_until_it_tells_more(ticks: Ticks) -> None:
    tempo = busy(ticks)
    assert tempo.seconds_left == 4
    ticks.now += 3
    assert tempo.seconds_left == 1
    tempo.announced(12, f"0x{12:064x}")
    assert tempo.seconds_left == 0 and not tempo.round_is_due
    tempo.looked()  # at an endpoint that does not have it yet
    assert tempo.seconds_left == pytest.approx(2 / 12)


@pytest.mark.parametrize("number", [9, 11])
def test_what_was_followed_is_not_looked_for_when_it_is_announced_again(
    ticks: Ticks, number: int
) -> None:
    tempo = busy(ticks)
    tempo.announced(number, f"0x{number:064x}")
    assert tempo.seconds_left == 4


def test_another_block_at_the_same_height_is_looked_for(ticks: Ticks) -> None:
    tempo = busy(ticks)
    ticks.now += 1
    tempo.announced(11, "0xanother")
    assert tempo.seconds_left == 0


def test_a_head_that_was_not_announced_ends_the_trust(ticks: Ticks) -> None:
    tempo = busy(ticks)
    ticks.now += 4
    round_done(tempo, seen(12, 5004), Pace.BUSY, final=False)
    assert 0 < tempo.seconds_left < 2
    ticks.now += 1
    # It tells again, too late to have been on its way.
    tempo.announced(12, f"0x{12:064x}")
    assert tempo.seconds_left < 1
    tempo.announced(13, f"0x{13:064x}")
    ticks.now += 1
    round_done(tempo, seen(13, 5006), Pace.BUSY, final=False)
    assert tempo.seconds_left == 4


def test_a_subscription_whose_answer_was_overtaken_is_right(ticks: Ticks) -> None:
    tempo = busy(ticks)
    ticks.now += 2
    round_done(tempo, seen(12, 5004), Pace.BUSY, final=False)
    ticks.now += 0.1
    tempo.announced(12, f"0x{12:064x}")
    assert tempo.seconds_left == pytest.approx(3.9)


def test_a_subscription_that_ended_or_made_up_its_heads_spares_nothing(ticks: Ticks) -> None:
    ended = busy(ticks)
    ended.announcements_ended()
    assert 0 < ended.seconds_left < 2

    lying = Tempo(ticks=ticks, local=False)
    for number in (10, 11, 12):
        lying.announced(number, "0xmadeup")
        lying.announced(2**255, "0xmadeup")
        round_done(lying, seen(number, 5000 + 2 * number), Pace.BUSY, final=True)
        assert 0 < lying.seconds_left < 2
        ticks.now += 2


@pytest.mark.parametrize(("pace", "span"), [(Pace.OPEN, 3), (Pace.IDLE, 14)])
def test_while_nothing_is_in_flight_announcements_change_nothing(
    ticks: Ticks, pace: Pace, span: int
) -> None:
    tempo = busy(ticks)
    tempo.round_done(pace)
    tempo.announced(12, f"0x{12:064x}")
    assert tempo.seconds_left == span
