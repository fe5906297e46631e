"""Tell where people decide on what waits for them."""

from __future__ import annotations

from coordinator_client import AsyncAgent
from coordinator_client.mcp.answers import Approval
from coordinator_client.transport import is_loopback_url


def approval_of(agent: AsyncAgent, approval_id: str, *, what: str = "approvals") -> Approval:
    """Return what people need to decide; a link where the service has a URL that they reach."""
    link = None if is_loopback_url(agent.url) else f"{agent.url}/v1/approvals/{approval_id}"
    tool = "purchase_status" if what == "approvals" else "request_limit_increase"
    return Approval(
        approval_id=approval_id,
        link=link if what == "approvals" else None,
        command=f"coordinator {what} approve {approval_id}",
        poll=f"{tool}; people may take hours, so poll once a minute at most.",
    )
