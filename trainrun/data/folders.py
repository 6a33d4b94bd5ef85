"""Folders of pictures: which are splits (train, val, test), which are classes, which files are unused."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from trainrun.data.faults import first_few
from trainrun.data.pictures import SUFFIXES
from trainrun.tables.names import SPLITS, split_of
from trainrun.vocabulary.errors import DataError

# Folders and files that systems and tools leave behind; so are all whose name begins with a dot.
_LEFTOVERS = {
    *("__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "lost+found"),
    *("__pycache__", "Thumbs.db", "desktop.ini"),
}
_UNSORTED = {"unknown", "unlabeled", "unlabelled", "images", "all"}


@dataclass(frozen=True)
class ClassFolders:
    """The classes of a folder, the files of each split with their class, and notes for the plan."""

    classes: tuple[str, ...]
    splits: Mapping[str, Sequence[tuple[Path, int]]]
    notes: tuple[str, ...]


def class_folders(folder: Path) -> ClassFolders:
    """The pictures in folder/CLASS, or in folder/SPLIT/CLASS with the splits in any usual spelling.

    Raises DataError where folders can be read in two ways, or hold no classes.
    """
    if not folder.is_dir():
        raise DataError(f"data.root: {folder} is not a folder{'; unpack it' if folder.is_file() else ''}")
    places = _places(folder)
    classes = _classes(folder, places["train"])
    splits: dict[str, list[tuple[Path, int]]] = {}
    renamed = [f"{split} is {place.name}" for split, place in places.items() if place.name != split]
    notes, nested = [], list[str]()
    if places["train"] != folder and renamed:
        notes.append(f"folders of the splits: {', '.join(renamed)}")
    unused = [] if places["train"] == folder else _beside(folder, list(places.values()))
    for split, place in places.items():
        if split != "train" and not _has_classes(place, split):
            notes.append(_without_classes(place, split))
            continue
        _refuse_other_classes(place, places["train"], classes)
        unused += _beside(place, [place / name for name in classes])
        files = list[tuple[Path, int]]()
        for target, name in enumerate(classes):
            pictures, others, below = walked(place / name)
            files += [(file, target) for file in pictures]
            unused += others
            nested += [f"{name}/{inner}" for inner in below]
        held = {target for _, target in files}
        missing = [name for target, name in enumerate(classes) if target not in held]
        if missing and split == "train":
            raise _empty(place, missing)
        if files:
            splits[split] = files
        if missing:
            text = f"of {first_few(missing)}" if files else f"at all: {split} is taken out of train"
            notes.append(f"{place.name} holds no picture {text}")
    if nested:
        notes.append(f"pictures in folders below a class belong to it: {first_few(sorted(set(nested)))}")
    return ClassFolders(classes, splits, (*notes, *not_used(unused, folder)))


def not_used(unused: Sequence[Path], folder: Path) -> list[str]:
    """A note that names unused files by their path in `folder`; none where there are none."""
    return [f"not used: {first_few([str(path.relative_to(folder)) for path in unused])}"] if unused else []


def walked(place: Path) -> tuple[list[Path], list[Path], set[str]]:
    """(pictures, other files and folders, names of inner folders with pictures) of a folder and all below.

    Links are followed, except into a folder that was visited.
    """
    files, others, below = [], [], set()
    visited = {os.path.realpath(place)}
    for path_of_here, folders, names in os.walk(place, followlinks=True):
        here = Path(path_of_here)
        others += [here / name for name in sorted([*folders, *names]) if _is_leftover(name)]
        real: dict[str, str] = {}
        for name in sorted(name for name in folders if not _is_leftover(name)):
            real.setdefault(os.path.realpath(here / name), name)  # of two links the first
        folders[:] = [name for path, name in real.items() if path not in visited]
        visited.update(real)
        for path in sorted(here / name for name in names if not _is_leftover(name)):
            if path.suffix.lower() in SUFFIXES and (path.is_file() or path.is_symlink()):
                files.append(path)
                below |= {str(here.relative_to(place))} - {"."}
            else:
                others.append(path)
    return sorted(files), others, below


def _is_leftover(name: str) -> bool:
    return name.startswith(".") or name in _LEFTOVERS


def _subfolders(place: Path) -> list[str]:
    return sorted(path.name for path in place.iterdir() if path.is_dir() and not _is_leftover(path.name))


def _has_classes(place: Path, split: str) -> bool:
    """Whether pictures are sorted into classes there; those of test/test and test/unknown are not."""
    names = _subfolders(place)
    return len(names) > 1 or any(split_of(name) != split and name.lower() not in _UNSORTED for name in names)


def _places(folder: Path) -> dict[str, Path]:
    """Split -> its folder; "train" alone where the folder itself holds the classes."""
    names = _subfolders(folder)
    is_class = {"valid"} if "invalid" in map(str.lower, names) else set()
    meant: dict[str, list[str]] = {}
    for name in names:
        if name.lower() not in is_class and (split := split_of(name)):
            meant.setdefault(split, []).append(name)
    train = folder / meant["train"][0] if "train" in meant else None
    if train and _subfolders(train):
        _refuse_two_readings(folder, meant)
        return {split: folder / meant[split][0] for split in SPLITS if split in meant}
    others = [name for name in names if all(name not in of_split for of_split in meant.values())]
    if not meant:
        _refuse_likely_splits(folder, others)
    if not meant or (others and meant.keys() == {"train"}):  # a class: buses, cars and trains
        return {"train": folder}
    if train:
        text = "holds no folder for each class; sort its pictures into folders named after their classes"
        raise DataError(f"data.root: {train} {text}")
    splits = first_few([name for name in names if name not in others])
    fix = f"put the class folders to train on into {folder / 'train'}, or rename {splits} if it is a class"
    raise DataError(f"data.root: {folder} has {splits}, but no train; {fix}")


def _refuse_two_readings(folder: Path, meant: Mapping[str, list[str]]) -> None:
    for split in SPLITS:
        if len(names := meant.get(split, [])) > 1:
            raise DataError(f"data.root: {folder} has {' and '.join(names)}, each {split}; keep one of them")
    if "val or test" in meant and not {"val", "test"} <= meant.keys():
        place = folder / meant["val or test"][0]
        text = "may be meant for validation or for the test; rename it to val or test"
        raise DataError(f"data.root: {place} {text}")


def _refuse_likely_splits(folder: Path, names: Sequence[str]) -> None:
    """Raise DataError for a folder that is no split by name, but holds class folders, or splits."""
    for name in names:
        inner = _subfolders(folder / name)
        words = re.split(r"[^A-Za-z]+|(?<=[a-z])(?=[A-Z])", name)
        if len(inner) > 1 and any(map(split_of, words)):
            text = "holds folders as a split does; rename it to train, val or test"
            raise DataError(f"data.root: {folder / name} {text}")
        if len(splits := [sub for sub in inner if split_of(sub)]) > 1:
            text = f"holds {first_few(splits)}: splits go above the classes, as {splits[0]}/{name}"
            raise DataError(f"data.root: {folder / name} {text}")


def _classes(folder: Path, train: Path) -> tuple[str, ...]:
    classes = _subfolders(train)
    if len(classes) > 1:
        return tuple(classes)
    got = ", ".join(classes) or "none"
    text = f"must hold a folder of pictures for each of two or more classes, got {got}"
    if classes and len(_subfolders(train / classes[0])) > 1:
        inner = train / classes[0]
        text += f"; {f'data.root={inner}' if train == folder else f'move what is in {inner} up into {train}'}"
    raise DataError(f"data.root: {train} {text}")


def _refuse_other_classes(place: Path, train: Path, classes: Sequence[str]) -> None:
    alike = {name.lower(): name for name in classes}
    for name in _subfolders(place):
        if name not in classes:
            hint = f"; rename it to {alike[name.lower()]}" if name.lower() in alike else ""
            raise DataError(f"data.root: {place / name} is a class that {train} lacks{hint}")


def _empty(train: Path, classes: Sequence[str]) -> DataError:
    """The error for classes without a picture to train on."""
    text = f"holds no picture ({', '.join(sorted(SUFFIXES))})"
    suffixes = {path.suffix.lower() for path in walked(train / classes[0])[1] if path.suffix}
    text += f", only {first_few(sorted(suffixes))}" if suffixes else ""
    text += f"; nor do {first_few(classes[1:])}" if classes[1:] else ""
    return DataError(f"data.root: {train / classes[0]} {text}")


def _beside(place: Path, used: Sequence[Path]) -> list[Path]:
    return sorted(path for path in place.iterdir() if path not in used)


def _without_classes(place: Path, split: str) -> str:
    """A note on the folder of a split that holds no class folders."""
    if not (files := walked(place)[0]):
        return f"{place.name} is empty: {split} is taken out of train"
    text = f"{place.name} has no class folders, so its {len(files):,} pictures are not used: {split} is taken"
    return f"{text} out of train (trainrun predict RUN --input {quote(str(place))} reads them)"
