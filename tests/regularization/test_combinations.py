"""Any two options together, and some more: each acts as it does alone, and what has no meaning is refused."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from trainrun.assembly.build import Parts, build
from trainrun.config.compose.composer import Composer
from trainrun.config.paths import groups
from trainrun.config.rules import contradictions
from trainrun.runtime.signals import Signals
from trainrun.vocabulary.events import Evaluated, Finished, StepsLogged

OPTIONS = sorted(groups()["regularization"])
WITHOUT_EFFECT = {"early_stopping", "ema", "swa"}  # on the weights that are trained
PENALTIES, MIXINGS, AVERAGES = {"l1", "l2", "elastic"}, {"mixup", "cutmix"}, {"ema", "swa"}
MODEL = ("model=resnet", "model.depth=8", "model.width=4")
RUN = ("data.limit=48", "batch_size=24", "budget=2step", "loop.log_every=2step", "runtime.threads=1")


class Ended:
    """What two steps with some options came to."""

    def __init__(self, parts: Parts, folder: Path) -> None:
        self.parts = parts
        events = list(parts.loop(folder, "", None, Signals()).train(parts.state))
        self.logged = next(event for event in events if isinstance(event, StepsLogged))
        self.evaluated = [event for event in events if isinstance(event, Evaluated)]
        self.finished = next(event for event in events if isinstance(event, Finished))
        self.weights: list[Tensor] = [p.detach().clone() for p in parts.state.model.parameters()]

    def differs_from(self, other: Ended) -> bool:
        return any(not torch.equal(a, b) for a, b in zip(self.weights, other.weights, strict=True))


Trained = Callable[[Collection[str]], Ended]


@pytest.fixture(scope="module")
def composed() -> Any:
    return Composer().compose([*RUN, *MODEL, f"regularization=[{','.join(OPTIONS)}]"])


def settings_with(composed: Any, names: Collection[str]) -> dict[str, Any]:
    chosen = {name: node for name, node in composed.settings["regularization"].items() if name in names}
    return {**composed.settings, "regularization": chosen}


@pytest.fixture(scope="module")
def trained(composed: Any, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Two steps with the options named; each set of them once."""
    cache: dict[frozenset[str], Ended] = {}

    def of(names: Collection[str]) -> Ended:
        key = frozenset(names)
        if key not in cache:
            settings = settings_with(composed, key)
            assert contradictions(settings, composed.explicit, composed.choices) == []
            cache[key] = Ended(build(settings), tmp_path_factory.mktemp("run"))
        return cache[key]

    return of


PAIRS = [pair for pair in itertools.combinations(OPTIONS, 2) if set(pair) != AVERAGES]
MORE = [
    ("cutmix", "label_smoothing", "mixup"),
    ("dropout", "mixup", "stochastic_depth"),
    ("elastic", "l1", "l2"),
    ("early_stopping", "l2", "swa"),
    ("ema", "label_smoothing", "stochastic_depth"),
    tuple(name for name in OPTIONS if name != "ema"),
    tuple(name for name in OPTIONS if name != "swa"),
]


@pytest.mark.parametrize("names", [*PAIRS, *MORE], ids="+".join)
def test_every_option_of_a_combination_acts(names: tuple[str, ...], trained: Trained) -> None:
    ended = trained(names)
    assert (ended.finished.step, ended.finished.skipped) == (2, 0)
    numbers = [ended.logged.loss, *ended.logged.metrics.values()]
    numbers += [value for event in ended.evaluated for value in event.metrics.values()]
    assert all(map(math.isfinite, numbers))
    for name in names:  # with it other weights are trained than without it, or the very same
        without = trained([other for other in names if other != name])
        assert ended.differs_from(without) is (name not in WITHOUT_EFFECT), name


@pytest.mark.parametrize("names", [*PAIRS, *MORE], ids="+".join)
def test_a_combination_reports_what_it_did(names: tuple[str, ...], trained: Trained) -> None:
    ended, chosen = trained(names), set(names)
    metrics = ended.logged.metrics
    assert ("accuracy_mixed" in metrics) is bool(chosen & MIXINGS)
    assert ("accuracy" in metrics) is not bool(chosen & MIXINGS)
    assert ("penalty" in metrics) is bool(chosen & PENALTIES)
    if chosen & PENALTIES:
        assert metrics["penalty"] > 0 and 0 < metrics["penalty_share"] < 1
    for event in ended.evaluated:  # samples that no one mixed
        assert "accuracy" in event.metrics and "accuracy_mixed" not in event.metrics
        assert event.weights == next(iter(chosen & AVERAGES), "raw")
    assert ("stops" in dict(ended.parts.plan)) is ("early_stopping" in chosen)
    warned = sum("decays already" in text for _, text in ended.parts.plan)
    assert warned == bool(chosen & {"l2", "elastic"})  # beside the default weight_decay, once


def test_two_averages_are_refused_in_any_company(composed: Any) -> None:
    for more in range(len(OPTIONS) - 1):
        others = [name for name in OPTIONS if name not in AVERAGES][:more]
        settings = settings_with(composed, [*others, "ema", "swa"])
        (problem,) = contradictions(settings, composed.explicit, composed.choices)
        assert problem.key == "regularization"
        assert "choose one of ema and swa: only one weight average is possible" in problem.text


def test_all_other_triples_are_allowed(composed: Any) -> None:
    for names in itertools.combinations(OPTIONS, 3):
        if not set(names) >= AVERAGES:
            settings = settings_with(composed, names)
            assert contradictions(settings, composed.explicit, composed.choices) == [], names
