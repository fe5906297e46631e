"""Identities: the keys by which agents and people are known to the service."""
