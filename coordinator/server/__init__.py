"""The treasury as a service: HTTP for agents, approvers, operators and auditors."""
