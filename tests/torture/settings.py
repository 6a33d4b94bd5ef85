"""How long the torture lasts: short by default, long by `make torture`."""

from __future__ import annotations

import os

LONG = "TORTURE_KILLS" in os.environ  # nothing is left to a sample
SEED = int(os.environ.get("TORTURE_SEED", "0"))
KILLS = int(os.environ.get("TORTURE_KILLS", "22"))
RANK_KILLS = int(os.environ.get("TORTURE_RANK_KILLS", "2"))
FLIPS = int(os.environ.get("TORTURE_FLIPS", "60"))
