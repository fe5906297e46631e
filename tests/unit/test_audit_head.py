"""An audit head as people write it down."""

from __future__ import annotations

import pytest

from coordinator.ledger.audit.log import Head


@pytest.mark.parametrize("text", ["", "7", "7:abc", ":", "x:" + "0" * 64, "-1:" + "0" * 64])
def test_a_head_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="COUNT:HASH"):
        Head.parse(text)
