"""The user's own code: as its files are now, and named where that is news."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from trainrun.config.reload import reload_changed, remember_loaded
from trainrun.terminal.lines import say


@contextlib.contextmanager
def current_code(settings: Mapping[str, Any]) -> Iterator[None]:
    """Within, what settings call of the user's is imported; before, what has changed is loaded anew."""
    for note in reload_changed(settings):
        say(note)
    yield
    remember_loaded(settings)
