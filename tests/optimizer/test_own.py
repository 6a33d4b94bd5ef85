"""Every form of Lightning's configure_optimizers is read; what is not one optimizer is refused by name."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import StepLR

from trainrun.optimizer import configure_optimizers
from trainrun.vocabulary.errors import ConfigError

LAYER, OTHER = nn.Linear(2, 1), nn.Linear(2, 1)
SGD = torch.optim.SGD(LAYER.parameters(), 0.1)
STEP = StepLR(SGD, 1)
DICT = {"scheduler": STEP, "interval": "step"}


def module(returned: Any) -> Any:
    owner = nn.Sequential(LAYER)
    owner.configure_optimizers = lambda: returned  # type: ignore[assignment]
    return owner


@pytest.mark.parametrize(
    ("returned", "schedulers"),
    [
        (SGD, []),
        ([SGD], []),
        (([SGD], []), []),
        (([SGD], [STEP]), [STEP]),
        (([SGD], STEP), [STEP]),
        (([SGD], [DICT, STEP]), [DICT, STEP]),
        ({"optimizer": SGD}, []),
        ({"optimizer": SGD, "lr_scheduler": STEP}, [STEP]),
        ({"optimizer": SGD, "lr_scheduler": DICT}, [DICT]),
        ([{"optimizer": SGD, "lr_scheduler": DICT}], [DICT]),
        ({"optimizer": SGD, "lr_scheduler": STEP, "monitor": "x"}, [{"scheduler": STEP, "monitor": "x"}]),
    ],
)
def test_all_of_lightnings_forms_are_read(returned: Any, schedulers: list[Any]) -> None:
    assert configure_optimizers(module(returned)) == (SGD, schedulers)


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        ((SGD, SGD), r"got SGD and SGD; for several write loop\.step\._target_"),
        (([SGD, SGD], [STEP]), "got SGD and SGD"),
        (({"optimizer": SGD}, {"optimizer": SGD}), "got dict and dict"),
        (None, "got NoneType"),
        ("sgd", "got str"),
        ([], "got nothing"),
        (torch.optim.LBFGS(LAYER.parameters()), "use optimizer=lbfgs"),
        (torch.optim.Adam(OTHER.parameters()), "Adam that are not in the model"),
    ],
)
def test_anything_else_is_refused_by_name(returned: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        configure_optimizers(module(returned))


def test_a_module_without_the_method_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"one optimizer of Linear\.configure_optimizers, got NoneType"):
        configure_optimizers(LAYER)
