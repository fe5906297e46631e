"""What programs and people rely on stays as it was written down."""

from __future__ import annotations

import pytest

from tests.public_face import KEPT, face


@pytest.mark.parametrize("part", KEPT)
def test_the_public_face_is_the_one_written_down(part: str) -> None:
    """After a change that users are told of: ``python -m tests.public_face``."""
    assert face()[part] == KEPT[part]
