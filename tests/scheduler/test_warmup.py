"""The warm-up: its own values, and under every schedule."""

from __future__ import annotations

import pytest
import torch
import yaml
from curves import CONF, SHAPED, assert_same, factors, from_yaml, torch_curve
from torch.optim import lr_scheduler as torch_schedulers

from trainrun import scheduler
from trainrun.scheduler import Warmed
from trainrun.vocabulary.errors import ConfigError

FROM_THE_START = ("step", "multistep", "exponential", "cyclic")


@pytest.mark.parametrize("start", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("warmup", [1, 2, 10])
def test_warmup_factor_is_n_plus_1_over_w_from_its_start(start: float, warmup: int) -> None:
    ours = scheduler.constant(warmup, start)
    rise = [start + (1 - start) * (n + 1) / warmup for n in range(warmup)]
    assert_same(factors(ours, warmup + 5), rise + [1.0] * 5)


@pytest.mark.parametrize(("total", "warmup"), [(3, 2), (7, 2), (7, 5), (100, 50), (1000, 5), (1000, 999)])
@pytest.mark.parametrize("start", [0.0, 0.1, 1.0])
def test_warmup_then_cosine_is_torchs_sequential(total: int, warmup: int, start: float) -> None:
    ours = scheduler.cosine(total, 1.0, warmup, start, 1e-3)

    def theirs(o: torch.optim.Optimizer) -> torch_schedulers.SequentialLR:
        first = start + (1 - start) / warmup  # of update 0; torch reaches 1 at total_iters
        rise = torch_schedulers.LinearLR(o, first, total_iters=warmup - 1)
        fall = torch_schedulers.CosineAnnealingLR(o, total - warmup, 1e-3)
        return torch_schedulers.SequentialLR(o, [rise, fall], [warmup])

    assert_same(factors(ours, total + 1), [lr for lr, _ in torch_curve(theirs, total + 1)])


@pytest.mark.parametrize("option", [option for option in SHAPED if option != "noam"])
def test_warmup_composes_with_every_schedule(option: str) -> None:
    """What follows the warm-up is the unwarmed schedule: over the rest, or counted from the start."""
    total, warmup, start = 100, 20, 0.2
    lengths = {"at": ["40step", "60step"], "every": "30step", "first": "10step"}
    lengths |= {"up": "10step", "down": "5step", "decay": "16step"}
    node = yaml.safe_load((CONF / f"{option}.yaml").read_text())
    changes = {key: value for key, value in lengths.items() if key in node}
    ours = from_yaml(option, total, **changes, warmup=f"{warmup}step", warmup_start=start)
    if option in FROM_THE_START:
        bare = from_yaml(option, total, **changes, warmup="0step")
        after = [bare(n)[0] for n in range(warmup, total)]
        first = [bare(n)[0] for n in range(warmup)]
    else:
        bare = from_yaml(option, total - warmup, **changes, warmup="0step")
        after = factors(bare, total - warmup)
        first = [bare(0)[0]] * warmup
    ramp = [start + (1 - start) * (n + 1) / warmup for n in range(warmup)]
    assert_same(factors(ours, total), [a * b for a, b in zip(first, ramp, strict=True)] + after)


@pytest.mark.parametrize("option", ["warmup_cosine", "warmup_linear", "warmup_constant", "wsd"])
def test_a_run_of_one_step_has_the_whole_learning_rate(option: str) -> None:
    assert factors(from_yaml(option, 1), 1) == [1.0]


def test_the_default_schedule_of_a_run_of_two_steps() -> None:
    """5 % of 2 steps, rounded up, is a warm-up of one; the cosine begins at the other."""
    assert factors(from_yaml("warmup_cosine", 2), 3) == [1.0, 1.0, 0.0]


def test_two_shares_of_a_run_may_meet_in_one_step() -> None:
    """80 % and 20 % of 3 steps are 3 and 1, rounded up."""
    assert factors(scheduler.wsd(3, 1.0, 3, "linear", 1, 0.0, 0.0), 4) == [1.0, 1.0, 0.5, 0.0]


@pytest.mark.parametrize("name", ["cosine", "linear"])
def test_a_warmup_longer_than_the_run_is_an_error(name: str) -> None:
    with pytest.raises(ConfigError, match=r"scheduler\.warmup: takes 11 steps, the whole run only 10"):
        getattr(scheduler, name)(10, 1.0, 11, 0.0, 0.0)


def test_warmed_is_public_enough_to_make_your_own() -> None:
    ours = Warmed(lambda n: 1 / (1 + n), warmup=2, warmup_start=0.0, spans_rest=True)
    assert_same(factors(ours, 4), [0.5, 1.0, 1.0, 0.5])
