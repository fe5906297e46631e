"""The picture of the rooms is the code's, and each stop of a purchase is where the page says."""

from __future__ import annotations

import re

from tests.rooms import PACKAGE, PAGE, drawn, kept


def test_the_picture_is_the_one_that_the_code_makes() -> None:
    """After a change of structure: ``python -m tests.rooms``."""
    assert kept() == drawn()


def test_each_stop_of_a_purchase_is_there() -> None:
    stops = re.findall(r"^\| \d\. [^|]+\| `([^`]+)` `(\w+)` \|", PAGE.read_text(), re.MULTILINE)
    assert len(stops) == 8
    for file, function in stops:
        assert re.search(rf"^ *def {function}\(", (PACKAGE / file).read_text(), re.MULTILINE), file
