"""Keys of the treasury: raw keys and keystores."""
