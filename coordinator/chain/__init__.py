"""What acts on chain. Only this package knows web3 and eth_account, and only when it acts."""
