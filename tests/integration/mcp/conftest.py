"""The services in processes of their own that the tests of the service have."""

from tests.integration.service.conftest import service

__all__ = ["service"]
