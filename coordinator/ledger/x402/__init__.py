"""Authorisations that pay for HTTP requests: what is to be signed, and what was."""
