"""What is remembered. One method is one database transaction; only this package knows SQL."""
