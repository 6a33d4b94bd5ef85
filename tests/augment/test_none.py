"""No augmentation."""

from __future__ import annotations

import torch

from trainrun.augment.none import none


def test_nothing_is_drawn() -> None:
    before = torch.get_rng_state()
    none()
    assert torch.equal(before, torch.get_rng_state())
