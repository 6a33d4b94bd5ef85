"""`python -m trainrun` is the `trainrun` command."""

import os
import sys

if __name__ == "__main__":
    if sys.path[:1] == [os.getcwd()]:  # Python's doing; which commands import from there, the command decides
        del sys.path[0]
    from trainrun.cli.main import main

    sys.exit(main())
