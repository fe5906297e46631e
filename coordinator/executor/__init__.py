"""Drive approved purchases to funded and open ones to their end; recover after a crash."""

from coordinator.executor.loop import Executor
from coordinator.executor.rounds import LEASE_SECONDS

__all__ = ["LEASE_SECONDS", "Executor"]
