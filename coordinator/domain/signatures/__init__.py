"""Signatures of accounts and Safes over 32 bytes, and why one does not count."""
