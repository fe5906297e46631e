"""Transactions: group commit, the cache of decisions, and what every transaction writes."""
