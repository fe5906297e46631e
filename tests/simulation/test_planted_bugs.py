"""Each bug that is planted on purpose is found, and by the invariant that it breaks."""

from __future__ import annotations

import pytest

from tests.simulation.invariants import Broken
from tests.simulation.planted import BUGS, OF_PAYMENTS, planted
from tests.simulation.simulation import Simulation, run

STEPS = 300
UNSTORED = "no chain transaction without a stored attempt"
STOPPED = "an executor or a caller was stopped"
EVIDENCE = "evidence stands on the chain"
STATE = "an escrow's state is the chain's"
OPEN = "no step stays open when faults stop"
ENDS = "every purchase comes to an end"
COMMITTED = "no decision is answered before its commit"
UNUSED = "no nonce is believed that the chain has not used"
LIMIT = "no admission exceeds a limit"
UNAPPROVED = "nothing is signed that nobody approved"
UNPROVED = "nothing is signed without signatures that count"
JOURNAL = "the journal equals the chain"
# A seed that finds it in few steps, and the invariants by which it may be found. A change of the
# product changes what a seed does, so the seeds after it are tried as well.
FOUND_BY = {
    "allowance-raced": (45, {"no purchase takes another's allowance"}),
    "nonce-from-the-chain": (2, {UNSTORED, UNUSED}),
    "hold-ended-by-clock": (18, {"a hold lasts until its purchase ends"}),
    "hold-ended-when-mined": (51, {"a hold ends at most once"}),
    "new-nonce-for-an-old-step": (49, {UNSTORED, UNUSED}),
    "posted-in-todays-window": (3, {"a hold stays in the window of its instant"}),
    "unknown-means-failed": (20, {"a hold ends at most once", OPEN, ENDS}),
    "sent-before-stored": (2, {UNSTORED}),
    "journal-not-rolled-back": (26, {JOURNAL}),
    "limit-checked-against-spent-alone": (12, {LIMIT}),
    "evidence-not-taken-back": (26, {EVIDENCE, STOPPED}),
    "fee-not-booked": (6, {"an escrow's journal equals the vault"}),
    "read-once": (35, {STATE, JOURNAL, STOPPED}),
    "rows-believed": (51, {UNAPPROVED, "nobody is paid whom nobody named", LIMIT}),
    "lease-believed-to-its-end": (8, {"a lease ends with its length"}),
    "lock-left-to-a-thread": (7, {"an interrupted wait leaves no lock behind"}),
    "parents-connections-used-in-a-child": (
        1,
        {COMMITTED, "a forked child is answered or refused"},
    ),
    "edits-not-told": (1, {"an edited row is told"}),
    "count-of-one-node-believed": (64, {UNUSED}),
    "signatures-believed": (7, {UNPROVED, "no signature counts that is another's"}),
    "approvals-not-asked-again": (18, {UNPROVED}),
    "payment-ended-early": (4, {"a hold lasts while its payment can be taken"}),
    "use-not-booked": (1, {JOURNAL}),
}
SEEDS = 30


def test_every_bug_is_looked_for() -> None:
    assert FOUND_BY.keys() == BUGS.keys()
    assert len(BUGS) >= 10


@pytest.mark.parametrize("bug", FOUND_BY)
def test_the_bug_is_found_and_nothing_is_without_it(bug: str) -> None:
    first, invariants = FOUND_BY[bug]
    seed, steps, found = next(filter(None, (_find(bug, n) for n in range(first, first + SEEDS))))
    assert found.partition(":")[0] in invariants
    run(seed, steps, pays=bug in OF_PAYMENTS)


def _find(bug: str, seed: int) -> tuple[int, int, str] | None:
    """The seed, the steps that it took to find the bug, and how that was told."""
    steps = 0
    with planted(bug):
        simulation = Simulation(seed, pays=bug in OF_PAYMENTS)
        try:
            while steps < STEPS:
                steps += 1
                simulation.step()
            simulation.heal()
        except Broken as broken:
            return seed, steps, str(broken)
        finally:
            simulation.close()
    return None
