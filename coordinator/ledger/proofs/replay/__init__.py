"""Replay of an audit log: every approver's signature, under the policy in force at its row."""
