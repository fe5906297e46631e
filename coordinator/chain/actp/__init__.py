"""The ACTP rail: calls, events, and checks of the deployed contracts."""
