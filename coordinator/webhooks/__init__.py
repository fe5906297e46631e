"""Deliver events to webhooks: the request to a checked address, and the process that sends it."""
