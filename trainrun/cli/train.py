"""`trainrun [overrides]`: one run, or with -m a sweep with a process for each job."""

from __future__ import annotations

from trainrun.config.check import plain_problems
from trainrun.vocabulary.errors import ConfigError


def run(words: list[str]) -> int:
    """Train as the words say. Returns the exit code."""
    if problems := plain_problems([word for word in words if word not in ("-q", "-v")]):
        raise ConfigError(problems)  # without Hydra, whose import takes longer
    from trainrun.session.summary import summarized
    from trainrun.session.train import read_line, show_settings, trained

    line = read_line(words)
    if show_settings(line):
        return 0
    if line.arguments.multirun:
        from trainrun.sweep.engine import sweep

        return sweep(line.composer, line.arguments.overrides, line.typed, line.quiet)
    return summarized(trained(line), line.quiet)
