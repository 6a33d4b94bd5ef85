"""From checked settings to live parts: the calls in order, the plan, and what is tried before a run."""
