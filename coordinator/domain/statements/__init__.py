"""Statements that approvers sign, and the proof that they did."""
