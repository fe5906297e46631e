"""What happens on chain, in the project's own words."""
