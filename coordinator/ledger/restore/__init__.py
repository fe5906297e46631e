"""Bring the ledger back: from an audit export, from a backup."""
