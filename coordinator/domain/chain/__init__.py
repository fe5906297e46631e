"""Name what happens on chain: events, steps, gas, entries of the journal."""
