"""Every place of a call is a part that exists, and offers only what a call there can take."""

from __future__ import annotations

import inspect
from importlib import import_module

import pytest

from trainrun.config.injection import SLOTS, slot_of
from trainrun.config.paths import groups
from trainrun.config.signature import signature
from trainrun.runtime.vision import import_torchvision


def test_every_group_of_the_config_has_a_slot() -> None:
    assert set(groups()) - {"experiment"} <= set(SLOTS)


@pytest.mark.parametrize("name", SLOTS)
def test_a_slots_modules_bases_and_extras_exist(name: str) -> None:
    slot = SLOTS[name]
    for module in slot.modules:
        (import_torchvision if module.startswith("torchvision") else import_module)(module)
    for base in slot.bases:
        module, _, cls = base.rpartition(".")
        assert inspect.isclass(getattr(import_module(module), cls))
    for key, target in slot.extras.items():
        takes = signature(target)
        assert takes is not None and key in takes.parameters


@pytest.mark.parametrize("name", SLOTS)
def test_never_a_seed_or_a_device_for_the_users_call(name: str) -> None:
    """Those are the machine's and the run's; a call that depends on them could not be reproduced."""
    if name not in ("precision", "loop", "loop.step"):
        assert not {"seed", "device"} & set(SLOTS[name].offers)


@pytest.mark.parametrize(
    ("path", "same_as"),
    [
        ("model", "model"),
        ("loop.clip", "loop.clip"),
        ("regularization.ema", "regularization"),
        ("logger.console", "logger"),
        ("parameters.rules.head*.init", "init"),
        ("parameters.rules.init", "init"),
        ("model.inner", None),
        ("regularization.ema.inner", None),
        ("nothing", None),
    ],
)
def test_a_path_leads_to_its_slot_or_to_none(path: str, same_as: str | None) -> None:
    assert slot_of(path) is (SLOTS[same_as] if same_as else None)
