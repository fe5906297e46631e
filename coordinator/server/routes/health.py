"""Routes for whoever keeps the service running."""

from __future__ import annotations

from fastapi import APIRouter, Response

router = APIRouter(tags=["health"])


@router.get("/healthz")
def healthz() -> Response:
    """Answer that the process runs; it asks nothing else."""
    return Response('{"status":"ok"}', media_type="application/json")
