"""The benchmark's past is what so many settled purchases would have left."""

from __future__ import annotations

import time

from tests.benchmarks.course import course, prepare, warm_up
from tests.benchmarks.history import fill
from tests.benchmarks.lived import live_one
from tests.integration.ledger.deciding import assert_books_agree, rows
from tests.integration.stores import Store, on_either

pytestmark = on_either
COUNT = 5_003


def test_a_past_agrees_with_itself_and_decisions_go_on_after_it(store: Store) -> None:
    url = store.make(store.url())
    prepare(url)
    lived = live_one()
    assert fill(url, lived, COUNT) == COUNT
    with course(url) as coordinator:
        assert warm_up(coordinator) == 11

    assert_books_agree(url)
    total = rows(url, "SELECT count, amount FROM purchase_totals WHERE status = 'settled'")
    # What is promised no more is counted, not added up.
    assert total == [(COUNT, 0)]
    settled = "SELECT id FROM purchases WHERE status = 'settled'"
    for table, each in lived.rows.items():
        of = "subject" if table == "audit" else "id" if table == "purchases" else "purchase_id"
        query = f"SELECT count(*) FROM {table} WHERE {of} IN ({settled})"
        assert rows(url, query) == [(COUNT * len(each),)], table
    ids = [id_ for (id_,) in rows(url, "SELECT id FROM purchases ORDER BY seq")]
    assert ids[:COUNT] == sorted(ids[:COUNT], key=lambda id_: id_[:12])
    assert len({len(id_) for id_ in ids}) == 1


def test_a_past_that_must_be_ready_in_time_is_shorter(store: Store) -> None:
    url = store.make(store.url())
    prepare(url)
    # Some: the first of it is made whatever the time.
    made = fill(url, live_one(), 1_000_000, until=time.monotonic() + 0.1)
    assert 0 < made < 20_000
    assert rows(url, "SELECT count(*) FROM purchases") == [(made,)]
    assert_books_agree(url)
