"""A treasury that is a Safe, and the role through which the worker's key may spend from it."""
