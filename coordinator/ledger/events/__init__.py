"""Public events, read from the audit log, and the webhooks that are told of them."""
