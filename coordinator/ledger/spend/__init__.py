"""Rows of purchases, approvals, proposals, costs and bonds."""
