"""`python -m trainrun` is the `trainrun` command."""

import sys

from trainrun.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
