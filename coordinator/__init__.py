"""Budgets, approvals and on-chain USDC escrow payments for teams of agents."""
