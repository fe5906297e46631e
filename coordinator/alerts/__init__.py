"""Deliver notices to people: retries, targets and their addresses."""
