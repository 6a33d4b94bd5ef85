"""Precisions, optimizers and compiled steps: losses are finite and fall."""

from __future__ import annotations

import math
from pathlib import Path

from setup import QUIET, Run, Setup, pictures, texts

NOT_ALONE = {"own", "per_module"}  # optimizers that a model must bring with it


def precision(setup: Setup) -> None:
    """Training in each precision; the loss at the end is below that at the start."""
    if setup.is_gpu:
        run = setup.start([*texts(True), *QUIET, "budget=2step", "runtime.device=cuda"], "named").wait()
        setup.must("runtime.device=cuda", f"exit code {run.code}", "exit code 0", run.code == 0, run.fault)
    words = [*QUIET, f"budget={40 if setup.small else 60}step", "loop.log_every=10step", "optimizer.lr=2e-3"]
    for name in ("fp32", "tf32", "bf16", "fp16"):
        for model, case in (("resnet9", pictures(setup.small)), ("gpt", texts(setup.small))):
            if name == "tf32" and not setup.is_gpu:
                setup.skipped(f"{name}, {model}", "tf32 is of NVIDIA's GPUs")
                continue
            run = setup.train([*case, *words, f"precision={name}"], f"{name}-{model}")
            judge_losses(setup, f"{name}, {model}", run)


def optimizer(setup: Setup) -> None:
    """Three steps of each optimizer, on kernels, matrices and vectors."""
    options = sorted(file.stem for file in (_conf() / "optimizer").glob("*.yaml"))
    names = [name for name in options if name not in NOT_ALONE]
    words = [*QUIET, "budget=3step", "loop.log_every=1step"]
    models = {"resnet9": pictures(setup.small)} | ({} if setup.small else {"gpt": texts(setup.small)})
    good = 0
    for name in names:
        faults = []
        for model, case in models.items():
            run = setup.train([*case, *words, f"optimizer={name}"], f"{name}-{model}")
            if run.code or len(run.losses) != 3 or not all(map(math.isfinite, run.losses)):
                faults.append((model, run))
        good += not faults
        for model, run in faults:
            setup.must(f"{name}, {model}", _losses(run), "3 finite losses", False, run.fault)
    text = f"three finite steps ({', '.join(models)})"
    setup.figure(text, f"{good} of {len(names)} optimizers", ", ".join(names))
    setup.skipped(", ".join(sorted(NOT_ALONE)), "a model must bring them with it")


def compile(setup: Setup) -> None:
    """Compiled training beside the same as written; the runs go side by side."""
    words = [*QUIET, f"budget={5 if setup.small else 40}step", "loop.log_every=1step", "optimizer.lr=1e-3"]
    cases = {"gpt": texts(False), "resnet9": pictures(False)}
    if setup.small:
        cases = {"mlp": ["data=synthetic", "data.num_samples=600", "model=mlp", "batch_size=16"]}
    modes = ("step",) if setup.small else ("model", "step")
    started = {
        (model, mode): setup.start([*case, *words, f"runtime.compile={mode}"], f"{model}-{mode}")
        for model, case in cases.items()
        for mode in ("off", *modes)
    }
    runs = {key: run.wait() for key, run in started.items()}
    for (model, mode), run in runs.items():
        if mode == "off":
            continue
        name, plain = f"{mode}, {model}", runs[model, "off"]
        if fault := run.fault or plain.fault:
            setup.must(name, "a run failed", "losses of the plain run", False, fault)
            continue
        apart = [abs(a / b - 1) for a, b in zip(run.losses, plain.losses, strict=True)]
        note = f"at most {max(apart):.1e} in {len(apart)} steps; {run.seconds:.0f} s in all"
        figure = f"{apart[0]:.1e} apart at first" if math.isfinite(sum(apart)) else "not finite"
        is_close = apart[0] < 1e-3 and max(apart) < 0.05
        setup.must(name, figure, "at most 1e-3, later 0.05", is_close, note)
    for mode in {"model", "step"} - set(modes):
        setup.skipped(mode, "compiling takes long: only without --small")


def judge_losses(setup: Setup, name: str, run: Run) -> None:
    losses = run.losses
    good = run.code == 0 and len(losses) > 1 and all(map(math.isfinite, losses)) and losses[-1] < losses[0]
    setup.must(name, _losses(run), "finite, and falls", good, run.fault)


def _losses(run: Run) -> str:
    if not run.losses:
        return f"exit code {run.code}"
    return " -> ".join(f"{loss:.3g}" for loss in (run.losses[0], run.losses[-1]))


def _conf() -> Path:
    return Path(__file__).resolve().parents[2] / "conf"
