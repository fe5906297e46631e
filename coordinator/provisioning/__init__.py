"""Set a treasury up: its key, the contracts and test funds of its chain, its database's schema."""
