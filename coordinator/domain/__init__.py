"""Pure rules of the coordinator: values in, values out; no IO, no clock, no web3, no SQL."""
