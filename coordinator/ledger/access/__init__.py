"""Identities that may speak to the service, as the ledger remembers them."""
