"""Costs, tasks and sessions, shares of pools, and requests for more of a limit."""
