"""Where configs lie: the built-in `conf/`, and a `conf/` in the folder the command was started in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent.parent
# Beside the package in a checkout, inside it in a wheel.
CONF = next(
    (p for p in (_PACKAGE / "conf", _PACKAGE.parent / "conf") if (p / "trainrun.yaml").is_file()), _PACKAGE
)
COMBINES = ("regularization", "logger")  # groups that take several options at once


def roots() -> list[Path]:
    """The folders that options are looked up in, the user's own first."""
    users = Path.cwd() / "conf"
    is_used = users.is_dir() and users.resolve() != CONF and not is_run(Path.cwd())
    return [users, CONF] if is_used else [CONF]


def groups(more: Sequence[Path] = ()) -> dict[str, dict[str, Path]]:
    """Every group with its options and their files; the user's own win, and those of `more` folders."""
    groups: dict[str, dict[str, Path]] = {}
    for root in (*reversed(roots()), *filter(Path.is_dir, more)):
        for folder in sorted(root.iterdir()):
            if folder.is_dir() and folder.name != "hydra":
                files = sorted(folder.rglob("*.yaml"))
                options = {str(file.relative_to(folder).with_suffix("")): file for file in files}
                groups.setdefault(folder.name, {}).update(options)
    return {name: dict(sorted(options.items())) for name, options in sorted(groups.items())}


def is_file(name: str | Path) -> bool:
    """Whether there is a file of that name; a text that cannot be a name is none."""
    try:
        return Path(name).is_file()
    except (OSError, ValueError):  # too long, or with a NUL
        return False


def is_run(folder: Path) -> bool:
    """Whether a folder is a run's: what lies there may have come from anybody."""
    return any((folder / name).exists() for name in ("status.json", "metrics.jsonl", ".hydra"))
