"""Statements of approvers, their credentials, and the check of their signatures."""
