"""Limits over scopes and windows, and the rules that say which apply."""
