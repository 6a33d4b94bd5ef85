"""`python -m trainrun` is the `trainrun` command."""

import os
import sys


def main() -> int:
    """Run the command, where the system has what it is built on."""
    try:
        import fcntl  # noqa: F401
    except ImportError:
        supported = False
    else:
        supported = hasattr(os, "fork")
    if not supported:
        print("trainrun needs fcntl and fork, which Windows lacks; use WSL", file=sys.stderr)
        return 2
    from trainrun.cli.main import main as command

    return command()


if __name__ == "__main__":
    if sys.path[:1] == [os.getcwd()]:  # Python's doing; which commands import from there, the command decides
        del sys.path[0]
    sys.exit(main())
