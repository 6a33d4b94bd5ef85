"""Run the `trainrun` command and end at once when its first step is done."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from typing import Any

from trainrun.__main__ import main
from trainrun.session import train

_plain_train_one = train.train_one


def train_one(*arguments: Any) -> Any:
    """The same, its windows counted: torch is imported no earlier than in the command itself."""
    from trainrun.loop.windows import Windows

    plain = Windows.__call__

    def first_window(self: Windows, state: Any) -> Generator[Any]:
        yield next(plain(self, state))
        os._exit(0)

    Windows.__call__ = first_window  # type: ignore[method-assign]
    return _plain_train_one(*arguments)


if __name__ == "__main__":
    train.train_one = train_one  # type: ignore[assignment]
    del sys.path[0]  # this folder
    sys.exit(main())
