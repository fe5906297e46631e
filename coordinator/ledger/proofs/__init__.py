"""Prove rows of the database from the audit log."""
