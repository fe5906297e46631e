"""An EVM chain: accounts, blocks, logs, fees and sends."""
