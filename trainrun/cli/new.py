"""`trainrun new FOLDER`: write a project that trains at once, as `trainrun show new` prints it."""

from __future__ import annotations

import errno
import shlex
from pathlib import Path

from trainrun.cli.arguments import ArgumentParser
from trainrun.cli.guide.pages import files_of
from trainrun.terminal.lines import answer, say
from trainrun.vocabulary.errors import ConfigError

_ABOUT = """Write a folder with a model, a data set, their options in conf/, an experiment, a test and a
README. `trainrun show new` prints the files."""
_OF_THE_NAME = (errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.ENAMETOOLONG)  # another one would do


def run(words: list[str]) -> int:
    """Print the folder on stdout, and what to type next on stderr."""
    parser = ArgumentParser(prog="trainrun new", description=_ABOUT)
    parser.add_argument("folder", metavar="FOLDER", help="a name or a path; not there yet, or empty")
    folder = Path(parser.parse_args(words).folder).expanduser()
    files = files_of("new")
    try:
        _require_unused(folder)
        for name, text in files.items():
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            title = f"# {folder.resolve().name}\n" if name == "README.md" else ""
            file.write_text(title + text, encoding="utf-8")
    except OSError as error:
        if error.errno not in _OF_THE_NAME:
            raise
        raise ConfigError.of("FOLDER", f"cannot be written: {error.strerror}, got {folder}") from None
    say(f"wrote {', '.join(files)}", "next:")
    say(f"  cd {shlex.quote(str(folder))}", "  trainrun experiment=first budget=2ep", "  pytest")
    answer(folder)
    return 0


def _require_unused(folder: Path) -> None:
    """Raise ConfigError where something of that name would be mixed with the project's files."""
    if folder.is_dir():
        if any(folder.iterdir()):
            raise ConfigError.of("FOLDER", f"must be new or empty, got {folder}, which holds files")
    elif folder.exists() or folder.is_symlink():
        raise ConfigError.of("FOLDER", f"must be a folder, got {folder}, which is a file")
