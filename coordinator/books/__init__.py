"""Follow the chain, keep the journal, reconcile, rebuild and report."""
