"""The file of a picture: checked before the work, announced after it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

from trainrun.terminal.lines import say
from trainrun.vocabulary.errors import ConfigError, StorageError

_FORMATS = (".png", ".pdf", ".svg")


def picture_file(file: Path) -> Path:
    """The file as given. Raises ConfigError for one that cannot become a picture."""
    if file.suffix not in _FORMATS or not file.parent.is_dir():
        raise ConfigError.of("--out", f"must be a .png, .pdf or .svg file in an existing folder, got {file}")
    return file


def paint(file: Path, draw: Callable[[Path], None]) -> None:
    """Have the picture drawn, and say where it is. Raises StorageError where it cannot be written."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph")  # a name in letters that the font lacks
            draw(file)
    except OSError as error:
        raise StorageError(f"{file}: {error.strerror}") from error
    say("", f"picture: {file}")
