"""The verdict after a run: what went wrong, from its records alone, and what to try."""
