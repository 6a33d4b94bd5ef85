"""Settings as one flat table."""

from __future__ import annotations

from trainrun.logger.settings import flat


def test_what_is_called_stands_under_its_groups_name_and_before_its_values() -> None:
    settings = {
        "seed": 0,
        "regularization": {},
        "optimizer": {"lr": 0.1, "_target_": "trainrun.optimizer.adamw", "betas": [0.9, 0.99]},
        "model": {"_target_": "my_model.Net", "head": {"_target_": "torch.nn.Linear", "bias": None}},
        "loop": {"clip": {"norm": 1.0}},
    }
    assert list(flat(settings).items()) == [
        ("seed", 0),
        ("optimizer", "adamw"),
        ("optimizer.lr", 0.1),
        ("optimizer.betas", [0.9, 0.99]),
        ("model", "my_model.Net"),
        ("model.head", "torch.nn.Linear"),
        ("model.head.bias", None),
        ("loop.clip.norm", 1.0),
    ]
