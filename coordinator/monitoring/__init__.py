"""Metrics and readiness: the state of the books and of a process, for those who keep it running."""
