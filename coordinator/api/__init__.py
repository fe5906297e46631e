"""The Python face: the coordinator, its agents, their sessions and holds."""
