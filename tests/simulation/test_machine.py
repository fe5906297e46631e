"""The same world driven by hypothesis: it chooses what happens, and shrinks what breaks."""

from __future__ import annotations

import logging

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.simulation.faults import NAMES
from tests.simulation.simulation import Simulation

ACTIONS = tuple(name for name in Simulation.ACTIONS if name != "fault")


class Machine(RuleBasedStateMachine):
    """Every rule does one thing; the simulation checks its invariants after each."""

    def __init__(self) -> None:
        super().__init__()
        self.simulation: Simulation | None = None

    @initialize(seed=st.integers(0, 2**16))
    def begin(self, seed: int) -> None:
        logging.disable(logging.CRITICAL)
        self.simulation = Simulation(seed)

    @precondition(lambda self: self.simulation is not None)
    @rule(name=st.sampled_from(("request", "round", "mine", "provider", "approve")))
    def work(self, name: str) -> None:
        assert self.simulation is not None
        self.simulation.do(name)

    @precondition(lambda self: self.simulation is not None)
    @rule(name=st.sampled_from(ACTIONS))
    def act(self, name: str) -> None:
        assert self.simulation is not None
        self.simulation.do(name)

    @precondition(lambda self: self.simulation is not None)
    @rule(name=st.sampled_from(NAMES))
    def strike(self, name: str) -> None:
        assert self.simulation is not None
        self.simulation.do(name)

    def teardown(self) -> None:
        try:
            if self.simulation is not None:
                self.simulation.heal()
        finally:
            if self.simulation is not None:
                self.simulation.close()
            logging.disable(logging.NOTSET)


TestMachine = Machine.TestCase
TestMachine.settings = settings(
    max_examples=5,
    stateful_step_count=50,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
