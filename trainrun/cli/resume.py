"""`trainrun resume RUN [overrides]`: resume from the newest valid checkpoint."""

from __future__ import annotations

from trainrun import ranks
from trainrun.session.find_run import find_run_of_ranks
from trainrun.session.resume import refuse_other_forms, resumed
from trainrun.session.summary import summarized
from trainrun.sweep import folder
from trainrun.vocabulary.errors import ConfigError

_HELP = """usage: trainrun resume RUN [overrides]
       trainrun resume SWEEP [sweep.repeat_failed=true] [sweep.retries=N] [sweep.trials=N]

Go on with a run from its newest checkpoint, or with a sweep: what is finished stays, what was interrupted
goes on. Of a run the budget, the schedule, values of the optimizer and of regularisers may change, and all
that changes no result; what is refused makes another run."""


def run(words: list[str]) -> int:
    """Returns the exit code of the resumed run; 0 where there is nothing to do."""
    if any(word in ("-h", "--help") for word in words):
        print(_HELP)
        return 0
    quiet = "-q" in words
    words = [word for word in words if word not in ("-q", "-v")]
    if not words or "=" in words[0]:
        raise ConfigError.of("RUN", "name the run to resume: a path, the beginning of one, a name, or last")
    name, overrides = words[0], words[1:]
    refuse_other_forms(name, overrides)
    if sweep := folder.find_named(name):
        from trainrun.sweep import engine

        return engine.resume(sweep, overrides, quiet)
    run_dir = find_run_of_ranks(name)
    ended = resumed(run_dir, overrides, quiet, [*ranks.command(), "resume", *words])
    return summarized(ended, quiet)
