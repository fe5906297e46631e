"""Server-sent events: one reader of the audit log for all streams of this process."""
