"""What agents and people ask of the treasury: request, approve, cancel, settle, dispute."""
