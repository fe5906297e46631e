"""The hash-chained audit log, its export, and the keys of its proofs."""
