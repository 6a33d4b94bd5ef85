"""The script's loop: forward and backward over a window, clip, update, evaluate, keep the best weights."""

from __future__ import annotations

from typing import Any

from trainrun.assembly.build import Parts
from trainrun.report.as_code.optimizer import rates_by_group
from trainrun.report.as_code.refusals import problem
from trainrun.report.as_code.task import loss_call, metric_of, per_sample
from trainrun.report.as_code.text import Section
from trainrun.vocabulary.duration import parse, to_steps
from trainrun.vocabulary.errors import ConfigError


def loop_section(parts: Parts) -> Section:
    """Train, evaluating on the way."""
    is_split = parts.batch_spec.accumulate > 1
    steps, seed = parts.state.total_steps, parts.settings["seed"]
    constants = [f"SEED = {seed}", f"STEPS = {steps}  # updates: {parts.settings['budget']}"]
    what = "window in enumerate(itertools.islice(windows(), STEPS))" if is_split else ""
    what = what or "rows in enumerate(itertools.islice(batches(), STEPS))"
    lines = [f"for update, {what}:"]
    lines.append("    model.train()  # evaluation has turned dropout off")
    lines.append("    for group in optimizer.param_groups:")
    factor = 'group["factor"] * ' if rates_by_group(parts) else ""
    lines.append(f'        group["lr"] = {factor}LR * lr_factor(update)')
    lines.append("    optimizer.zero_grad()")
    lines += _window(parts) if is_split else _batch(parts)
    lines += _clip(parts)
    lines.append("    optimizer.step()")
    if "ema" in (parts.settings["regularization"] or {}):
        lines.append("    update_average(update + 1)")
    if parts.monitor is not None:
        every = to_steps(parse(parts.settings["loop"]["eval_every"]), parts.pace)
        constants.append(f"EVAL_EVERY = {every}  # updates")
        lines += _evaluation(parts)
        lines.insert(0, f"best = {_WORST[parts.monitor.maximize]}")
    return Section("\n".join(lines), tuple(constants))


_WORST = {True: "(-math.inf, -math.inf)", False: "(math.inf, math.inf)"}


def _forward(parts: Parts, indent: str, loss: str) -> list[str]:
    """Lines of the loss, under autocast where the run has it."""
    if parts.state.precision.dtype is None:
        return [f"{indent}loss = {loss}"]
    head = f"{indent}with torch.autocast(device.type, {parts.state.precision.dtype}):"
    return [head, f"{indent}    loss = {loss}"]


def _smoothing(parts: Parts) -> float | None:
    regularizer: dict[str, Any] | None = (parts.settings["regularization"] or {}).get("label_smoothing")
    if regularizer is None:
        return None
    if not parts.settings["loss"]["_target_"].endswith(".CrossEntropy"):
        raise ConfigError([problem("regularization=label_smoothing without loss=cross_entropy")])
    return float(regularizer["amount"])


def _batch(parts: Parts) -> list[str]:
    """One batch is the window."""
    step = "update" if (step := _accumulate(parts)) == 1 else f"update * {step}"
    lines = ["    inputs, targets = batch(rows)"]
    lines.append("    # Dropout draws from (seed, update), whatever ran before.")
    lines.append(f"    torch.manual_seed(stream(SEED, {step}))")
    lines += _forward(parts, "    ", loss_call(parts, "model(inputs)", smoothing=_smoothing(parts)))
    return [*lines, "    loss.backward()"]


def _window(parts: Parts) -> list[str]:
    """Several micro-batches whose gradients add up."""
    each = per_sample(parts)
    lines = ["    # Known before the first backward: a short window is the mean over what it holds."]
    lines.append(f"    count = sum(len(rows) for rows in window){each}")
    lines += ["    for micro, rows in enumerate(window):", "        inputs, targets = batch(rows)"]
    lines.append("        # Dropout draws from (seed, micro-batch), whatever ran before.")
    lines.append("        torch.manual_seed(stream(SEED, update * ACCUMULATE + micro))")
    lines += _forward(parts, "        ", loss_call(parts, "model(inputs)", "sum", _smoothing(parts)))
    return [*lines, "        (loss / count).backward()"]


def _accumulate(parts: Parts) -> int:
    """By what random draws are counted; with batch_size=full it may differ from the window's."""
    return int(parts.settings["loop"]["accumulate"])


def _clip(parts: Parts) -> list[str]:
    clip = parts.settings["loop"]["clip"]
    limit = "math.inf" if clip["norm"] is None else repr(clip["norm"])
    why = "# Stop at a gradient that is not finite, before it reaches the weights."
    lines = [] if clip["norm"] is not None else [f"    {why}"]
    lines.append(f"    nn.utils.clip_grad_norm_(model.parameters(), {limit}, error_if_nonfinite=True)")
    if clip["value"] is not None:
        lines.append(f"    nn.utils.clip_grad_value_(model.parameters(), {clip['value']!r})")
    return lines


def _evaluation(parts: Parts) -> list[str]:
    """Evaluate on the validation split, and keep the best weights."""
    monitor, metric = parts.monitor, metric_of(parts)
    assert monitor is not None
    if monitor.name not in ("loss", metric):
        raise ConfigError([problem(f"monitor=val/{monitor.name}")])
    net = "average" if "ema" in (parts.settings["regularization"] or {}) else "model"
    lines = ["    if (update + 1) % EVAL_EVERY == 0 or update + 1 == STEPS:"]
    lines.append(f"        loss, {metric} = evaluate({net}, val)")
    shown = f"loss {{loss:.4f}}, {metric} {{{metric}:.4f}}"
    lines.append(f'        print(f"step {{update + 1}}: {shown}")')
    loss = "-loss" if monitor.maximize else "loss"
    value = (f"-{monitor.name}" if False else monitor.name, loss)
    sign = ">" if monitor.maximize else "<"
    lines.append(f"        if ({value[0]}, {value[1]}) {sign} best:  # of equal ones the lower loss")
    lines.append(f"            best = {value[0]}, {value[1]}")
    lines.append(f'            torch.save({net}.state_dict(), "best.pt")')
    return lines


def end_section(parts: Parts) -> Section:
    """Keep the last weights, and evaluate the best ones once on the test split."""
    lines = ['torch.save(model.state_dict(), "last.pt")']
    if parts.monitor is not None:
        lines.append('model.load_state_dict(torch.load("best.pt"))')
    if parts.info.sizes.get("test"):
        if parts.monitor is not None:
            lines.append("# Nothing was chosen on the test split, so its figure is an honest one.")
        metric = metric_of(parts)
        lines.append(f"loss, {metric} = evaluate(model, test)")
        lines.append(f'print(f"test: loss {{loss:.4f}}, {metric} {{{metric}:.4f}}")')
    return Section("\n".join(lines))
