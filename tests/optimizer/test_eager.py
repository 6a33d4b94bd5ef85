"""Optimizers without torch's compiler: the same weights, and nothing of the compiler imported."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

CODE = """
import json, sys, torch
from trainrun.optimizer.eager import skip_compiler_import
if sys.argv[1] == "eager":
    skip_compiler_import()
weights = {}
names = "Adadelta Adagrad Adam AdamW Adamax ASGD NAdam RAdam RMSprop Rprop SGD Adafactor"
for name in names.split():
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 3)
    groups = [{"params": [model.weight]}, {"params": [model.bias], "weight_decay": 0.01}]
    optimizer = getattr(torch.optim, name)(groups, lr=0.1)
    for step in range(3):
        optimizer.zero_grad()
        model(torch.ones(2, 4)).square().sum().backward()
        optimizer.step()
    optimizer.load_state_dict(optimizer.state_dict())
    assert model.weight.requires_grad and torch.is_grad_enabled()
    weights[name] = [value.hex() for p in model.parameters() for value in p.flatten().tolist()]
print(json.dumps({"compiler": "torch._dynamo" in sys.modules, "weights": weights}))
"""


def run(way: str) -> dict[str, object]:
    done = subprocess.run([sys.executable, "-c", CODE, way], capture_output=True, text=True, check=True)
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


def test_every_optimizer_of_torch_steps_to_the_same_bits_without_the_compiler():
    eager, torch_alone = run("eager"), run("torch")
    assert eager["weights"] == torch_alone["weights"]
    assert torch_alone["compiler"] and not eager["compiler"]


HOOKS = """
import torch
from trainrun.optimizer.eager import skip_compiler_import, unmark
skip_compiler_import()
weight = torch.nn.Parameter(torch.ones(2))
optimizer = torch.optim.SGD([weight], lr=0.1)
seen = []
optimizer.register_step_post_hook(lambda *_: seen.append(torch.is_grad_enabled()))
schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1)
(weight * 2).sum().backward()
loss = optimizer.step(lambda: seen.append("closure") or torch.tensor(3.0))
schedule.step()
assert seen == ["closure", True] and loss == 3.0, (seen, loss)
compiled = torch.compile(lambda x: x * 2, backend="eager")
assert compiled(torch.ones(1)) == 2
optimizer.step()
unmark()
optimizer.zero_grad()
plain = torch.optim.Optimizer.zero_grad.__wrapped__
assert plain.__dynamo_disable is not plain
"""


@pytest.mark.filterwarnings("error")
def test_hooks_closures_and_a_later_compiler_work_as_before():
    done = subprocess.run([sys.executable, "-W", "error", "-c", HOOKS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
