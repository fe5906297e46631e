"""Payments for single HTTP requests: what a server offers, and what the treasury signs."""
