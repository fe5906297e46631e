"""A fixed set of seeds: every invariant holds after every step, and a seed is a run."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from coordinator.domain.ports import KillPoint
from tests.simulation.faults import ACTS, NAMES
from tests.simulation.simulation import Outcome, Simulation, run

ROOT = Path(__file__).resolve().parents[2]
STEPS = 300
# In parts, so that they spread over the workers.
PARTS = [range(1, 5), range(5, 9)]
PAYING = (1, 4, 6)
MORE_PAYING = tuple(range(22, 37))
SIGNED = (18, 21, 22)
MORE_SIGNED = (27, 28, 30, 32, 34, 35, 36, 37, 38, 40)
MORE = [range(first, first + 5) for first in range(9, 41, 5)]


@pytest.mark.parametrize(
    "seeds",
    [*PARTS, *(pytest.param(seeds, marks=pytest.mark.campaign) for seeds in MORE)],
    ids=lambda seeds: f"{seeds.start}..{seeds.stop - 1}",
)
def test_every_invariant_holds_after_every_step(seeds: range) -> None:
    outcomes = [run(seed, STEPS) for seed in seeds]
    assert sum(sum(outcome.faults.values()) for outcome in outcomes) > 80
    assert sum(outcome.purchases["settled"] for outcome in outcomes) > 0


@pytest.mark.parametrize(
    "seeds", [SIGNED, pytest.param(MORE_SIGNED, marks=pytest.mark.campaign)], ids=["few", "many"]
)
def test_nothing_is_paid_without_signatures_that_count(seeds: tuple[int, ...]) -> None:
    outcomes = [run(seed, STEPS, signed=True) for seed in seeds]
    struck = sum((outcome.faults for outcome in outcomes), Counter[str]())
    assert struck["signature_forged"] > 0 and struck["credential_changed"] > 0
    assert sum(outcome.signed for outcome in outcomes) > 0
    assert sum(outcome.again for outcome in outcomes) > 0


@pytest.mark.parametrize(
    "seeds", [PAYING, pytest.param(MORE_PAYING, marks=pytest.mark.campaign)], ids=["few", "many"]
)
def test_a_payment_is_taken_once_and_held_until_nobody_can_take_it(seeds: tuple[int, ...]) -> None:
    outcomes = [run(seed, STEPS, pays=True) for seed in seeds]
    assert sum(outcome.taken for outcome in outcomes) > 0
    assert sum(outcome.unused for outcome in outcomes) > 0


@pytest.mark.parametrize("name", [name for name in NAMES if name != "kill_at"])
def test_a_fault_of_each_kind_strikes_and_breaks_no_invariant(name: str) -> None:
    assert any(_strikes(name, seed) for seed in range(1, 6))


@pytest.mark.parametrize("point", KillPoint)
def test_a_kill_at_each_point_breaks_no_invariant(point: KillPoint) -> None:
    assert any(_strikes(f"kill:{point}", seed) for seed in range(1, 6))


_OF_PAYMENTS = {
    f"kill:{point}" for point in (KillPoint.AUTHORISATIONS_SIGNED, KillPoint.AUTHORISATIONS_STORED)
}


def _strikes(name: str, seed: int) -> bool:
    """Whether it strikes in a run of many steps; some follow."""
    simulation = Simulation(seed, pays=name in _OF_PAYMENTS)
    try:
        for number in range(120):
            _arm(simulation, name, number)
            if number % 3 == 0:
                simulation.do("round")
            if number % 10 == 9:
                for usual in ("time", "mine", "reorg"):
                    simulation.do(usual)
            simulation.step()
            if simulation.faults.struck[name] or (name in ACTS and number == 30):
                for _ in range(10):
                    simulation.step()
                return True
    finally:
        simulation.close()
    return False


def _arm(simulation: Simulation, name: str, number: int) -> None:
    """Arm it again and again: what happens first, such as another kill, may use it up."""
    if name in ACTS:
        if number in (10, 20, 30):
            simulation.do(name)
    elif name.startswith("kill:"):
        simulation.faults.kill_at = KillPoint(name.removeprefix("kill:"))
    else:
        simulation.faults.armed[name] = 1


def test_a_seed_gives_the_same_run_and_another_seed_another() -> None:
    first, again, other = run(7, 100), run(7, 100), run(8, 100)
    assert first == again
    assert first.fingerprint != other.fingerprint


def _told(hash_seed: str) -> str:
    program = "from tests.simulation.simulation import run; print(run(9, 100))"
    ran = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.splitlines()[-1]


def test_a_seed_gives_the_same_run_in_every_process() -> None:
    assert _told("1") == _told("2")
    assert isinstance(run(9, 100), Outcome)


@pytest.mark.parametrize(
    "arguments",
    [["--seeds", "5..1"], ["--seeds", "x"], ["--steps", "0"], ["--plant", "nothing"], ["--colour"]],
    ids=" ".join,
)
def test_bad_arguments_are_refused_in_one_sentence(arguments: list[str]) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "tests.simulation", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 2
    assert "error:" in ran.stderr.splitlines()[-1]
    assert ran.stdout == ""
