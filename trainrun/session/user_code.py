"""Reload the user's own modules whose files have changed, and say which."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from trainrun.config.reload import reload_changed, remember_loaded
from trainrun.terminal.lines import say


@contextlib.contextmanager
def current_code(settings: Mapping[str, Any]) -> Iterator[None]:
    """Reload changed modules that `settings` call, and remember what is imported within."""
    for note in reload_changed(settings):
        say(note)
    yield
    remember_loaded(settings)
