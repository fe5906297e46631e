"""Rows of allocations, increases, overlays, tasks and sessions."""
