"""The stream of events, for whoever would otherwise ask again and again."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response

from coordinator.domain.events.event import EventFilter, event_types
from coordinator.server.access import AnyCaller
from coordinator.server.bodies import StrictRoute
from coordinator.server.events.streams import EventStream, Streams
from coordinator.server.problems import ProblemError, documented

router = APIRouter(prefix="/v1/events", tags=["events"], route_class=StrictRoute)

_SEQ_MAX = 2**63 - 1
_STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Server-sent events: `id`, `event` and `data`, a JSON object.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
}


@router.get(
    "",
    response_class=Response,
    responses={**_STREAM, **documented(401, 403, 409, 422, 429, 503)},
)
async def stream_events(
    request: Request,
    who: AnyCaller,
    types: Annotated[
        str | None,
        Query(max_length=2000, description="Only these, separated by commas: purchase.funded,…"),
    ] = None,
    after: Annotated[
        int | None,
        Query(ge=0, le=_SEQ_MAX, description="The id after which to begin; 0: from the first."),
    ] = None,
    last_event_id: Annotated[
        str | None,
        Header(alias="Last-Event-ID", pattern=r"^[0-9]{1,18}$", description="As `after`."),
    ] = None,
) -> Response:
    """Follow events as they happen: an agent's own, or everybody's.

    Without `after` or `Last-Event-ID` it begins with the next event. A stream goes on until the
    client leaves, its key ends, it takes nothing for ten seconds, or the server stops: then connect
    again with the last `id`, and nothing is missed or told twice.
    """
    streams: Streams = request.app.state.streams
    coordinator = who.coordinator
    wanted = EventFilter(
        event_types(one.strip() for one in types.split(",")) if types else frozenset(),
        None if who.sees_all else who.name,
    )
    head = await coordinator.off_loop(streams.feed.head)
    begin = int(last_event_id) if last_event_id is not None else after
    if begin is not None and begin > head:
        raise ProblemError(
            409, f"there is no event {begin}: the last one is {head}", code="no_such_event"
        )
    wiring, begin = coordinator.opened, head if begin is None else begin

    def still_valid() -> bool:
        return wiring.api_keys.counts(who.key.id, now=wiring.clock())

    return EventStream(streams, who.key, wanted, begin, still_valid=still_valid)
