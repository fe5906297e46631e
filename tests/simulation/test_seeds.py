"""A fixed set of seeds: every invariant holds after every step, and a seed is a run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.simulation import Outcome, run

ROOT = Path(__file__).resolve().parents[2]
STEPS = 400
# In parts, so that they spread over the workers.
PARTS = [range(first, first + 5) for first in range(1, 41, 5)]


@pytest.mark.parametrize("seeds", PARTS, ids=lambda seeds: f"{seeds.start}..{seeds.stop - 1}")
def test_every_invariant_holds_after_every_step(seeds: range) -> None:
    outcomes = [run(seed, STEPS) for seed in seeds]
    assert sum(sum(outcome.faults.values()) for outcome in outcomes) > 100
    assert sum(outcome.purchases["settled"] for outcome in outcomes) > 0


def test_a_seed_gives_the_same_run_and_another_seed_another() -> None:
    first, again, other = run(7, 200), run(7, 200), run(8, 200)
    assert first == again
    assert first.fingerprint != other.fingerprint


def _told(hash_seed: str) -> str:
    program = "from tests.simulation.simulation import run; print(run(9, 200))"
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
    assert isinstance(run(9, 200), Outcome)


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
