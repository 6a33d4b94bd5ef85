"""What tests of several ranks share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from ranked import Ranks, serving


@pytest.fixture(scope="session")
def in_ranks() -> Iterator[Ranks]:
    with serving() as ready:
        yield ready
