"""What the outside asks of one rank, to stop or to save, made known to all where they add numbers up."""

from __future__ import annotations

from collections.abc import Sequence

_asked = [0.0, 0.0]  # of this rank: to stop, to save
_agreed = [False, False]  # the same of any rank, as of the last meeting
_meetings = 0


def ask(stop: bool = False, save: bool = False) -> None:
    """Let all ranks know, when they next add numbers up, that this one was asked to stop or to save."""
    _asked[:] = [float(stop or _asked[0]), float(save or _asked[1])]


def asked() -> list[float]:
    """What this rank was asked, to be summed over all and given to `agree`."""
    sent = [*_asked]
    if sent[1]:  # else a signal may come just now
        _asked[1] = 0.0
    return sent


def agree(asked: Sequence[float]) -> None:
    """Take note, as all ranks do at this place, of what any of them was asked."""
    global _meetings
    _meetings += 1
    _agreed[:] = [before or count > 0 for before, count in zip(_agreed, asked, strict=True)]


def forget_asked() -> None:
    """Begin anew: what was asked and agreed was of a run that has ended."""
    _asked[:], _agreed[:] = [0.0, 0.0], [False, False]


def agreed_to_stop() -> bool:
    """Whether any rank was asked to stop before they last added numbers up; the same on all."""
    return _agreed[0]


def take_agreed_save() -> bool:
    """Whether any was asked to save; each asking counts once."""
    asked, _agreed[1] = _agreed[1], False
    return asked


def num_meetings() -> int:
    """How often the hosts have met: with it grows what they have agreed on."""
    return _meetings
