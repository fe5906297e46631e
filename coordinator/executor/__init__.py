"""Drive approved purchases to funded and open ones to their end; recover after a crash."""

from coordinator.executor.loop import LEASE_SECONDS, Executor

__all__ = ["LEASE_SECONDS", "Executor"]
