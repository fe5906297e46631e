"""A local chain: Anvil and the deployment of the contracts."""
