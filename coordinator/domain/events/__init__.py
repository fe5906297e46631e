"""Public events: what programs outside are told of rows of the audit log."""
