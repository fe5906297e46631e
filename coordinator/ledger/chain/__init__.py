"""Rows of what the chain told and of what was signed for it."""
