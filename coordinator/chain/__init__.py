"""Chains: rails, endpoints and signers. Only this package knows web3 and eth_account."""
