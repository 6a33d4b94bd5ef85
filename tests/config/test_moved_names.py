"""Names that stored runs call lead to what they became."""

from __future__ import annotations

import pytest

from trainrun.config.moved_names import MOVED, with_first_names, with_new_names
from trainrun.config.signature import locate


@pytest.mark.parametrize("old", MOVED)
def test_an_old_name_is_gone_and_its_new_one_is_there(old: str) -> None:
    assert locate(old) is None
    assert locate(MOVED[old]) is not None


def test_calls_are_renamed_at_any_depth_and_nothing_else_is() -> None:
    old = {"loop": {"_target_": "trainrun.loop.Loop", "step": {"_target_": "trainrun.step.Step"}}}
    old |= {"name": "trainrun.step.Step", "rules": [{"_target_": "trainrun.step.Clip"}]}
    new = with_new_names(old)
    assert new["loop"]["step"] == {"_target_": "trainrun.loop.step.Step"}
    assert new["rules"] == [{"_target_": "trainrun.loop.step.Clip"}]
    assert new["name"] == "trainrun.step.Step"
    assert with_first_names(new) == old
