"""How people and programs reach the coordinator."""
