"""JSON-RPC over HTTP: endpoints, failover, and secrets kept out of what is shown."""
