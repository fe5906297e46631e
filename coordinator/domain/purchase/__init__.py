"""A purchase: request, decision, lifecycle, and the plan of its next step."""
