"""What is compiled and what runs as written: told by a backend that counts, which needs no C++ compiler."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trainrun.protocols import Batch, Outcome, Position
from trainrun.runtime import compiler
from trainrun.runtime.compiler import CompiledTask, compile_in_place, failing_in_words, uncompiled
from trainrun.vocabulary.errors import ConfigError


class Summed:
    """A task whose loss is the sum of the outputs; `metric_modes` are those of any task."""

    metric_modes = {"loss": "min"}  # noqa: RUF012

    def __call__(self, model: nn.Module, batch: Batch) -> Outcome:
        return Outcome({"loss": model(batch.inputs).sum()}, {})


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many operations each graph had that was compiled, and the calls of all of them."""
    import torch._dynamo

    seen: list[int] = []

    def backend(graph: Any, example_inputs: Any) -> Any:
        seen.append(sum(node.op in ("call_function", "call_method") for node in graph.graph.nodes))
        return graph.forward

    monkeypatch.setattr(compiler, "_HOW", {"dynamic": False, "backend": backend})
    torch._dynamo.reset()
    yield seen
    torch._dynamo.reset()


def batch(size: int, split: str = "", number: int = 0) -> Batch:
    return Batch(torch.ones(size, 3), None, range(size), Position(), split=split, number=number)


def model() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 2), nn.ReLU())


def test_a_sequential_is_compiled_too_and_keeps_its_names(graphs: list[int]) -> None:
    """nn.Module.compile leaves it as it is: torch compiles no function of its own files."""
    plain, ours = model(), model()
    plain.compile(backend="eager")
    compile_in_place(ours)
    assert torch.equal(ours(torch.ones(4, 3)), copy.deepcopy(ours)(torch.ones(4, 3)))
    assert graphs == [2]
    assert list(ours.state_dict()) == list(plain.state_dict()) == ["0.weight", "0.bias"]


def test_a_copy_is_uncompiled_and_so_is_what_runs_uncompiled(graphs: list[int]) -> None:
    ours, looked = model(), list[Tensor]()
    compile_in_place(ours)
    copy.deepcopy(ours)(torch.ones(4, 3))
    with uncompiled():
        ours[1].register_forward_hook(lambda module, args, output: looked.append(output))
        ours(torch.ones(4, 3))
    assert graphs == [] and len(looked) == 1


@pytest.mark.parametrize("whole", [False, True])
def test_a_graph_for_the_first_shape_of_each_split_and_none_for_others(
    graphs: list[int], whole: bool
) -> None:
    """So that which graph a batch gets follows from the batch, whatever came before it."""
    ours, task = model(), CompiledTask(Summed(), whole)  # type: ignore[arg-type]
    compile_in_place(ours)
    for _ in range(2):
        for size in (8, 8, 3, 8, 1):
            task(ours.train(), batch(size))
        with torch.inference_mode():
            for number, size in enumerate((6, 6, 2)):
                task(ours.eval(), batch(size, "val", number))
            task(ours, batch(6, "test"))
    assert graphs == [3 if whole else 2, 2]  # training with its loss; evaluation, of one shape in both splits


def test_its_other_attributes_are_those_of_the_task(graphs: list[int]) -> None:
    assert CompiledTask(Summed(), True).metric_modes == {"loss": "min"}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("raised", "message"),
    [
        (
            "InvalidCxxCompiler No working C++ compiler found",
            "needs a C.. compiler.*apt install g.., or use off",
        ),
        ("TritonMissing Cannot find a working triton installation", "on a GPU Triton; one is missing"),
        (
            "CppCompileError C++ compile error\n x.cpp:1: error: no type y",
            "cannot compile Sequential: x.cpp:1: error: no type y;",
        ),
        ("LoweringError it is too odd", "cannot compile Sequential: LoweringError: it is too odd; use off"),
    ],
)
def test_what_a_compiler_cannot_do_is_an_error_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, graphs: list[int], raised: str, message: str
) -> None:
    def backend(graph: Any, example_inputs: Any) -> Any:
        name, _, text = raised.partition(" ")
        raise type(name, (RuntimeError,), {})(text)

    monkeypatch.setattr(compiler, "_HOW", {"dynamic": False, "backend": backend})
    ours = model()
    compile_in_place(ours)
    with pytest.raises(ConfigError, match=f"runtime.compile: .*{message}") as caught:
        CompiledTask(Summed(), False)(ours, batch(4))  # type: ignore[arg-type]
    assert caught.value.problems[0].fix == "runtime.compile=off"


def test_without_a_compiler_in_the_process_nothing_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "sys", SimpleNamespace(modules={}))
    monkeypatch.setattr(torch.compiler, "set_stance", None)
    with uncompiled():
        pass


def test_a_compiler_that_fails_in_the_backward_pass_is_told_in_words() -> None:
    from torch._dynamo.exc import TorchDynamoException

    said = pytest.raises(ConfigError, match="torch cannot compile Linear: no room; use off")
    with said, failing_in_words(nn.Linear(1, 1)):
        raise TorchDynamoException("backend='inductor' raised:\nno room")
