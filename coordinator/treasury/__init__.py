"""Use cases of the treasury: request, approve, cancel, settle, dispute."""
