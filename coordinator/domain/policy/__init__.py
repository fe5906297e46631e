"""The policy file: its tables, values, faults and text."""
