"""A program that uses all of an agent, and what it is told, to compare one face with another."""

from __future__ import annotations

from typing import Any, Final

import pytest

PAPERS: Final[dict[str, Any]] = {"provider": "paper-api", "purpose": "Paper access"}


def refused(ask: Any) -> tuple[str, str, bool | None]:
    """The name, code and ``money_moved`` of what a call raises."""
    try:
        ask()
    except Exception as fault:
        known: Any = fault
        return type(fault).__name__, known.code, known.money_moved
    raise AssertionError("nothing was raised")


def story(agent: Any, mark: str) -> dict[str, Any]:
    """What one agent is told, without ids and times; ``mark`` makes its keys and names its own."""
    key, session, told = f"{mark}-papers", f"{mark}-session", {"id": agent.id}

    bought = agent.purchase(**PAPERS, amount="25.00", service="papers", idempotency_key=key)
    again = agent.purchase(**PAPERS, amount="25.00", service="papers", idempotency_key=key)
    told["bought"] = (
        bought.status,
        bought.ok,
        bought.denied,
        bought.needs_approval,
        bought.final,
        str(bought.amount),
        bought.reason,
        bought.idempotency_key == key,
        bought.escrow_id == again.escrow_id is not None,
        bought.id == again.id,
        [t.step for t in bought.transactions],
        agent.get(bought.id).agent,
        agent.get(idempotency_key=key).id == bought.id,
    )
    told["bought as JSON"] = {
        name: value
        for name, value in bought.as_dict().items()
        if value is None or name in ("status", "amount", "purpose", "provider_name", "settle")
    }
    told["waited"] = agent.wait_for(bought.id, until="final", timeout_seconds=0.2).status
    told["cancelled"] = _answer(agent.cancel(bought.id))
    told["settled"] = _answer(agent.settle(bought.id))
    told["contested"] = _answer(agent.contest(bought.id, reason="not what I asked for"))

    large = agent.purchase(**PAPERS, amount="1500", wait=False)
    told["denied"] = (large.status, large.denied, large.final, large.reason.code, str(large.reason))
    told["broken"] = [
        (str(s.limit.scope), s.limit.window, str(s.limit.amount)) for s in large.limits if s.broken
    ]
    asked = agent.purchase(**PAPERS, amount="75", task="t-1", timeout_seconds=30)
    told["asked"] = (asked.status, asked.needs_approval, asked.approval_id is not None, asked.task)
    told["withdrawn"] = _answer(agent.cancel(asked.id))
    found = agent.purchases(since=bought.created_at, limit=3)
    told["listed"] = [p.id for p in found] == [asked.id, large.id, bought.id]
    told["next page"] = agent.purchases(limit=1, after=asked.id)[0].id == large.id
    told["by status"] = {p.status for p in agent.purchases(status=["denied", "cancelled"])}
    judged = agent.check(**PAPERS, amount="60")
    told["checked"] = (judged.outcome, judged.required, judged.reason.code, judged.provider_name)

    with agent.hold("1.50", purpose="a model call") as hold:
        spent = hold.post("0.70")
    told["held"] = (
        hold.ok,
        spent.status,
        str(spent.amount),
        str(spent.posted),
        hold.id == spent.id,
    )
    told["held again"] = str(agent.held(hold.id).post("0.90").posted)
    with pytest.raises(ZeroDivisionError), agent.hold("2") as hold:
        _ = 1 / 0
    told["voided"] = (hold.cost.status, str(hold.cost.posted))
    refusal = agent.hold("1500")
    told["refused"] = (refusal.ok, refusal.denied, refusal.reason.code, refused(refusal.post))
    told["recorded"] = agent.record("0.10", idempotency_key=f"{mark}-fee").status
    told["hold judged"] = [r.code for r in agent.check_hold("1500").reasons]

    with agent.open_session(session, {"total_limit": "5.00"}) as opened_session:
        over = agent.purchase(**PAPERS, amount="7", session=session, wait=False)
        told["over session"] = (over.reason.code, str(over.reason).replace(mark, "…"))
        agent.record("1.25", session=session)
        (limit,) = opened_session.limits()
        report = opened_session.report()
        told["session"] = (str(limit.remaining), report["off_chain"], report["status"])
    told["closed"] = opened_session.close().as_dict()["status"]
    told["after closing"] = agent.purchase(**PAPERS, amount="1", session=session).reason.code
    told["task"] = agent.open_task(f"{mark}-task").close().as_dict()["closed_by"]

    more = agent.request_increase("5", reason="more papers", window="total")
    told["more"] = (more.status, more.granted, str(more.scope), more.window, str(more.amount))
    told["limits"] = [
        (str(s.limit.scope), s.limit.window, str(s.limit.amount)) for s in agent.limits()
    ]
    told["level"] = (agent.service_level, agent.features)
    told["faults"] = {
        "other terms": refused(
            lambda: agent.purchase(**PAPERS, amount="26", service="papers", idempotency_key=key)
        ),
        "amount": refused(lambda: agent.purchase(**PAPERS, amount="1e3")),
        "float": refused(lambda: agent.hold(0.5)),
        "provider": refused(lambda: agent.purchase(provider="no such", purpose="x", amount="1")),
        "purpose": refused(lambda: agent.purchase(provider="paper-api", purpose="", amount="1")),
        "id": refused(lambda: agent.get("pur_0")),
        "path": refused(lambda: agent.cancel("../limits")),
        "key": refused(lambda: agent.get(idempotency_key="never-used")),
        "neither": refused(agent.get),
        "until": refused(lambda: agent.wait_for(bought.id, until="rich")),
        "cost": refused(lambda: agent.held("cst_0")),
        "span": refused(lambda: agent.hold("1", expires_after="soon")),
        "session again": refused(lambda: agent.open_session(session)),
        "no such limit": refused(lambda: agent.request_increase("1", reason="x", window="weekly")),
        "no share": refused(lambda: agent.request_emergency("1", reason="x", pool="none")),
        "status": refused(lambda: agent.purchases(status="rich")),
    }
    return told


def _answer(answer: Any) -> tuple[Any, ...]:
    return answer.done, answer.purchase.status, answer.reason and answer.reason.code
