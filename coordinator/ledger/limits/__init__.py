"""Counters of what is held and spent, and what is laid over the policy's limits."""
