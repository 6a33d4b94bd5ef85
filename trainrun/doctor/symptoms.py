"""The one table of what goes wrong: how it is seen, why, and what to try, in the order of tuning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from trainrun.doctor import rules
from trainrun.doctor.curves import RecordedRun


@dataclass(frozen=True)
class Remedy:
    """What to try."""

    what: str
    overrides: tuple[str, ...]  # braces hold what is reckoned from the run: {lr/3}, {budget*2}
    needs: str = ""  # what a run has that they fit, where the default run has it not


@dataclass(frozen=True)
class Symptom:
    """One row of the table."""

    name: str
    sign: str
    cause: str
    remedies: tuple[Remedy, ...]
    rule: Callable[[RecordedRun], str | None] | None = None  # None: for people to judge
    explains: tuple[str, ...] = ()  # symptoms that follow from this one, and are not named beside it


def _try(what: str, *overrides: str, needs: str = "") -> Remedy:
    return Remedy(what, overrides, needs)


_LOWER = _try("lower the learning rate in factors of three", "optimizer.lr={lr/3}")
_LOWER_MUCH = _try("lower the learning rate in factors of ten", "optimizer.lr={lr/10}")
_RAISE = _try(
    "raise the learning rate in factors of ten; lowering it makes this worse", "optimizer.lr={lr*10}"
)
_WARM_UP = _try("warm up for 5 to 10 % of the run", "scheduler.warmup=10%")
_FALL = _try("let it fall", "scheduler=cosine")
_FALL_LATE = _try("let it fall when progress stalls", "scheduler=plateau")
_CLIP = _try("clip a little above the usual norm", "loop.clip.norm=1.0")
_CLIP_ABOVE = _try("clip above the usual norm", "loop.clip.norm={grad_norm*3}")
_ROLL_BACK = _try("go back to the last checkpoint when it happens", "loop.nonfinite=rollback")
_INIT = _try("initialise to fit the activation", "init=auto")
_SOFT = _try("an activation that does not saturate", "model.activation=relu", "init=auto")
_LEAKY = _try("an activation that cannot die", "model.activation=leaky_relu")
_RESIDUAL = _try("residual connections", "model.residual=true", needs="model=mlp")
_LONGER = _try("train longer", "budget={budget*2}")
_SIMPLE = _try("see what a linear model reaches", "model=linear")
_WIDER = _try("a larger model", "model.width={width*2}", needs="model=mlp")
_WIDTHS = _try("a larger model", "model.widths=[64,128]")
_AVERAGE = _try("average the weights", "regularization=ema")
_LARGER = _try("larger batches", "batch_size=128")

# The symptoms that follow where nothing was learned.
_UNLEARNED = (
    *("loss constant", "underfitting", "plateau", "validation at chance", "overfitting"),
    *("oscillating", "evaluation noise"),
)

# The weightiest first: what hides the rest, then what was learned, then what could be better.
SYMPTOMS = (
    Symptom(
        "NaN",
        "loss or gradient is NaN or infinite",
        "learning rate too high, bad values in the data, overflow in fp16",
        (_LOWER_MUCH, _WARM_UP, _CLIP, _ROLL_BACK),
        rules.not_finite,
        (*_UNLEARNED, "failed", "diverged", "learning rate too high", "learning rate too low", "dead units"),
    ),
    Symptom(
        "fp16 overflow",
        "fp16 skips many steps",
        "gradients beyond the range of fp16",
        (_try("bf16, which has the range of fp32", "precision=bf16"), _CLIP),
        rules.fp16_overflow,
    ),
    Symptom(
        "batch norm on tiny batches",
        "validation far from training, or an error about values per channel",
        "batch norm needs some ten samples at a time; accumulation does not help it",
        (_try("larger batches", "batch_size=32"), _try("a norm within a sample", "model.norm={norm}")),
        rules.tiny_batch_norm,
        ("failed", "evaluation noise", "oscillating", "validation at chance", "underfitting"),
    ),
    Symptom("failed", "the run ended with an error", "as the error says", (), rules.failed),
    Symptom(
        "vanishing gradient",
        "early layers hardly change, the loss stays where it began",
        "gradients vanish in depth",
        (_SOFT, _try("norm layers", "model.norm=batch"), _RESIDUAL),
        rules.vanishing,
        (*_UNLEARNED, "learning rate too low", "learning rate too high"),
    ),
    Symptom(
        "diverged",
        "the loss climbs for good",
        "learning rate too high; no warm-up before a transformer or with large batches",
        (_LOWER, _WARM_UP, _CLIP),
        rules.diverged,
        (*_UNLEARNED, "learning rate too high", "learning rate too low", "dead units"),
    ),
    Symptom(
        "learning rate too high",
        "the loss leaps at once and then stays high; steps are as large as the weights",
        "learning rate far too high, or inputs that are not standardised",
        (_LOWER_MUCH, _WARM_UP),
        rules.lr_too_high,
        (*_UNLEARNED, "dead units"),
    ),
    Symptom(
        "dead units",
        "most ReLU units give 0 for a whole batch",
        "weights all zero, biases far below zero, or a learning rate that pushed them there",
        (_INIT, _LOWER, _LEAKY),
        rules.dead_units,
        (*_UNLEARNED, "learning rate too low"),
    ),
    Symptom(
        "clipping always binding",
        "nearly every step is clipped",
        "the limit, not the gradient, sets the length of the steps",
        (_CLIP_ABOVE,),
        rules.clipping_binds,
        ("learning rate too low", *_UNLEARNED),
    ),
    Symptom(
        "learning rate too low",
        "the loss falls very slowly; steps are thousands of times smaller than the weights",
        "learning rate too low",
        (_RAISE, _LONGER),
        rules.lr_too_low,
        _UNLEARNED,
    ),
    Symptom(
        "loss constant",
        "the loss stays where it began",
        "no gradient, labels that do not belong to their inputs, or a learning rate far too low",
        (_RAISE, _INIT, _SIMPLE),
        rules.constant_loss,
        _UNLEARNED,
    ),
    Symptom(
        "validation at chance",
        "training learns, validation never does",
        "labels that do not belong to their inputs, too few samples, or splits that differ",
        (_SIMPLE, _try("train on all samples", "data.limit=null")),
        rules.val_at_chance,
        ("overfitting", "underfitting", "evaluation noise"),
    ),
    Symptom(
        "overfitting",
        "validation turns worse while training improves",
        "more freedom than samples; the best weights are kept all the same",
        (
            _try("regularise; more data help most", "regularization=dropout"),
            _try("decay the weights more", "optimizer.weight_decay=0.1"),
            _try("stop there", "regularization=early_stopping"),
        ),
        rules.overfitting,
        ("evaluation noise",),
    ),
    Symptom(
        "oscillating",
        "the loss swings and does not settle",
        "learning rate too high for so small batches",
        (_LOWER, _FALL, _LARGER),
        rules.oscillating,
    ),
    Symptom(
        "underfitting",
        "training and validation are both poor",
        "model too small, run too short, or regularised too much",
        (_LONGER, _WIDER, _WIDTHS, _try("regularise less", "model.dropout=0")),
        rules.underfitting,
    ),
    Symptom(
        "plateau",
        "progress stalls late",
        "learning rate too high for the last steps",
        (_FALL, _FALL_LATE),
        rules.plateau,
    ),
    Symptom(
        "data-starved",
        "steps wait for data",
        "loading takes longer than computing",
        (
            _try("more loader processes, or data kept in memory", "data.num_workers=4"),
            _try("larger batches, or a simpler augment, cost less a sample", "batch_size=128"),
        ),
        rules.starved,
    ),
    Symptom(
        "evaluation noise",
        "validation leaps from one evaluation to the next",
        "few validation samples; batch norm with small batches; a learning rate that stays high",
        (_try("hold out more samples", "data.val_fraction=0.3"), _AVERAGE, _LARGER),
        rules.noisy_validation,
    ),
    Symptom(
        "loss spikes", "the loss jumps now and then (spikes in the log)", "rare huge gradients", (_CLIP,)
    ),
    Symptom(
        "training above validation",
        "the training loss is above that of validation",
        "dropout and smoothing, on in training only",
        (_try("mostly nothing is wrong; switch them off to see", "model.dropout=0"),),
    ),
    Symptom(
        "rare classes missed",
        "rare classes are missed",
        "imbalance",
        (_try("weight the classes", "loss.class_weights=balanced", needs="data=wine"),),
    ),
    Symptom(
        "luck",
        "the figure differs by seed",
        "chance",
        (_try("repeat, and compare means", "seed=range(5)", needs="-m"),),
    ),
)
