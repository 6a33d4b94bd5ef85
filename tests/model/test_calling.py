"""A model is called as its signature says, and as before by whoever calls it himself."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trainrun.model.calling import call_by_signature
from trainrun.protocols import InputParts
from trainrun.vocabulary.errors import ConfigError


class Two(nn.Module):
    def forward(self, image: Tensor, age: Tensor) -> Tensor:
        return image * 10 + age


class Optional(nn.Module):
    def forward(self, idx: Tensor, targets: Any = None) -> Any:
        return idx, targets


class Batch(nn.Module):
    def forward(self, batch: Any) -> Any:
        return batch


class Any_(nn.Module):
    def forward(self, *parts: Any, **named: Any) -> Any:
        return parts, named


PARTS = {"image": torch.tensor(1.0), "age": torch.tensor(2.0)}


def test_a_dict_becomes_the_arguments_of_its_names() -> None:
    model = Two()
    call_by_signature(model, PARTS)
    assert model(PARTS) == 12
    assert model(PARTS | {"id": 7}) == 12  # an entry that forward does not know
    assert model(torch.tensor(3.0), torch.tensor(4.0)) == 34
    assert model(image=torch.tensor(3.0), age=torch.tensor(4.0)) == 34
    assert copy.deepcopy(model)(PARTS) == 12


def test_an_entry_that_a_batch_lacks_is_left_to_the_models_default() -> None:
    model = Optional()
    call_by_signature(model, {"idx": 1, "targets": 2})
    assert model({"idx": 1, "targets": 2}) == (1, 2)
    assert model({"idx": 1}) == (1, None)


def test_parts_in_order_become_arguments() -> None:
    model = Two()
    call_by_signature(model, InputParts(PARTS.values()))
    assert model(InputParts(PARTS.values())) == 12
    optional = Optional()
    call_by_signature(optional, InputParts((1, 2)))
    assert optional(InputParts((1, 2))) == (1, 2)
    assert optional([1, 2]) == ([1, 2], None)  # a list of the user's stays one argument


def test_a_model_that_takes_the_whole_gets_the_whole() -> None:
    for inputs in (PARTS, InputParts((1, 2))):
        model = Batch()
        call_by_signature(model, inputs)
        assert model(inputs) == (PARTS if inputs is PARTS else (1, 2))


def test_catch_all_arguments_get_everything() -> None:
    by_name, in_order = Any_(), Any_()
    call_by_signature(by_name, PARTS)
    call_by_signature(in_order, InputParts((1, 2)))
    assert by_name(PARTS) == ((), PARTS)
    assert in_order(InputParts((1, 2))) == ((1, 2), {})


def test_a_single_tensor_changes_nothing() -> None:
    model = Two()
    call_by_signature(model, torch.ones(2))
    assert not model._forward_pre_hooks


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"image": 1, "years": 2}, "forward of Two needs age, the inputs have image, years"),
        (InputParts((1,)), "forward of Two takes 2 arguments, the inputs have 1 parts"),
    ],
)
def test_parts_that_do_not_fit_are_named(inputs: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        call_by_signature(Two(), inputs)
