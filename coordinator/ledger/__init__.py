"""The ledger in the database. One method is one transaction; only this package knows SQL."""
