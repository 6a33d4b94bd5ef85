"""Folders of pictures: splits in every usual spelling, or a refusal; what is not used is named."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from trainrun.data.folders import class_folders, walked
from trainrun.tables.names import split_of
from trainrun.vocabulary.errors import DataError


def tree(root: Path, *files: str) -> Path:
    """Empty files, of which only the names are looked at; a name with a slash at its end is a folder."""
    for name in files:
        path = root / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.touch()
    return root


def both(*places: str) -> list[str]:
    """Pictures of two classes in each of these folders."""
    return [f"{place}/{name}/{n}.png" for place in places for name in ("cat", "dog") for n in range(2)]


def sizes(root: Path) -> dict[str, int]:
    return {split: len(files) for split, files in class_folders(root).splits.items()}


SPELLINGS = {
    "train": (
        "train",
        "Train",
        "TRAIN",
        "training",
        "Training",
        "trn",
        "train_set",
        "trainset",
        "training-data",
    ),
    "val": ("val", "valid", "validation", "Validation", "VAL", "dev", "val_images", "valid2017"),
    "test": ("test", "Test", "testing", "tst", "test_set", "TestImages", "01_test"),
}


@pytest.mark.parametrize(
    ("split", "name"), [(split, name) for split in SPELLINGS for name in SPELLINGS[split]]
)
def test_a_split_is_understood_in_every_usual_spelling(tmp_path: Path, split: str, name: str) -> None:
    names = [name if split == other else other for other in SPELLINGS]
    folders = class_folders(tree(tmp_path, *both(*names)))
    assert folders.classes == ("cat", "dog")
    for place, (_, files) in zip(names, folders.splits.items(), strict=True):
        wanted = [
            (f"{place}/{kind}/{n}.png", target)
            for target, kind in enumerate(("cat", "dog"))
            for n in range(2)
        ]
        assert [(str(file.relative_to(tmp_path)), target) for file, target in files] == wanted
    assert tuple(folders.splits) == ("train", "val", "test")
    notes = () if name == split else (f"folders of the splits: {split} is {name}",)
    assert folders.notes == notes


@pytest.mark.parametrize("name", ["trains", "valley", "contest", "devil", "cat", "protest", "2017"])
def test_other_words_are_no_splits(name: str) -> None:
    assert split_of(name) is None


@pytest.mark.parametrize(
    ("places", "said"),
    [
        (["train", "Training"], "has Training and train, each train; keep one"),
        (["train", "val", "validation"], "has val and validation, each val; keep one"),
        (["train", "eval"], "eval may be meant for validation or for the test; rename it"),
        (["train", "val", "evaluation"], "evaluation may be meant"),
        (["val", "test"], "has test, val, but no train; put the class folders to train on into"),
        (
            ["pets_train", "pets_test"],
            "pets_test holds folders as a split does; rename it to train, val or test",
        ),
        (["petsTrain", "petsTest"], "petsTest holds folders as a split does"),
    ],
)
def test_what_can_be_read_in_two_ways_is_refused(tmp_path: Path, places: Sequence[str], said: str) -> None:
    with pytest.raises(DataError, match=said):
        class_folders(tree(tmp_path, *both(*places)))


def test_an_evaluation_folder_beside_both_is_named(tmp_path: Path) -> None:
    assert class_folders(tree(tmp_path, *both("train", "val", "test", "eval"))).notes == ("not used: eval",)


def test_a_test_folder_beside_the_classes_is_refused(tmp_path: Path) -> None:
    tree(tmp_path, "cat/1.png", "dog/1.png", "test/1.png")
    with pytest.raises(
        DataError, match=r"has test, but no train; put the class folders .*/train, or rename test if"
    ):
        class_folders(tmp_path)


def test_splits_inside_of_classes_are_refused(tmp_path: Path) -> None:
    tree(tmp_path, *(f"{kind}/{split}/1.png" for kind in ("cat", "dog") for split in ("train", "test")))
    with pytest.raises(DataError, match="cat holds test, train: splits go above the classes, as test/cat"):
        class_folders(tmp_path)


@pytest.mark.parametrize("classes", [("bus", "car", "train"), ("invalid", "valid")])
def test_a_class_may_be_named_like_a_split(tmp_path: Path, classes: Sequence[str]) -> None:
    tree(tmp_path, *(f"{name}/1.png" for name in classes))
    assert class_folders(tmp_path).classes == classes
    assert sizes(tmp_path) == {"train": len(classes)}


def test_a_flat_test_folder_is_named(tmp_path: Path) -> None:
    tree(tmp_path, *both("train"), "test/1.png", "test/2.png")
    folders = class_folders(tmp_path)
    assert sizes(tmp_path) == {"train": 4}
    (note,) = folders.notes
    assert "test has no class folders, so its 2 pictures are not used: test is taken out of train" in note
    assert f"trainrun predict RUN --input {tmp_path}/test" in note


@pytest.mark.parametrize("name", ["test", "unknown", "images"])
def test_a_folder_of_unsorted_pictures_is_no_class(tmp_path: Path, name: str) -> None:
    tree(tmp_path, *both("train"), f"test/{name}/1.png")
    assert sizes(tmp_path) == {"train": 4}
    assert "test has no class folders, so its 1 pictures are not used" in class_folders(tmp_path).notes[0]


def test_flat_folders_without_classes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="train holds no folder for each class; sort its pictures"):
        class_folders(tree(tmp_path, "train/1.png", "test/1.png"))


def test_what_is_not_used_is_named(tmp_path: Path) -> None:
    tree(tmp_path, *both("train"), "extra/1.png", "labels.csv", "train/loose.png", "train/cat/about.txt")
    assert class_folders(tmp_path).notes == (
        "not used: extra, labels.csv, train/loose.png, train/cat/about.txt",
    )
    tree(tmp_path, *(f"train/dog/{n}.txt" for n in range(1000)))
    assert class_folders(tmp_path).notes[0].endswith("train/cat/about.txt, train/dog/0.txt and 999 more")


def test_leftovers_of_systems_are_no_classes_and_no_pictures(tmp_path: Path) -> None:
    tree(tmp_path, "cat/1.png", "dog/1.png", ".DS_Store", "__MACOSX/cat/._1.png", ".hidden/1.png")
    tree(tmp_path, "cat/.ipynb_checkpoints/1-checkpoint.png", "cat/@eaDir/1.png/thumb.jpg", "cat/._1.png")
    folders = class_folders(tmp_path)
    assert folders.classes == ("cat", "dog")
    assert sizes(tmp_path) == {"train": 2}
    assert folders.notes == (
        "not used: .DS_Store, .hidden, __MACOSX, cat/._1.png, cat/.ipynb_checkpoints and 1 more",
    )


def test_folders_below_a_class_belong_to_it_and_that_is_told(tmp_path: Path) -> None:
    tree(tmp_path, "cat/1.png", "dog/poodle/1.png", "dog/terrier/small/2.png")
    assert sizes(tmp_path) == {"train": 3}
    assert class_folders(tmp_path).notes == (
        "pictures in folders below a class belong to it: dog/poodle, dog/terrier/small",
    )


def test_links_are_followed_but_not_in_a_circle(tmp_path: Path) -> None:
    tree(tmp_path, "elsewhere/cat/1.png", "elsewhere/more/2.png", "pets/dog/1.png")
    (tmp_path / "pets/cat").symlink_to(tmp_path / "elsewhere/cat")
    (tmp_path / "pets/dog/more").symlink_to(tmp_path / "elsewhere/more")
    (tmp_path / "pets/dog/circle").symlink_to(tmp_path / "pets/dog")
    assert sizes(tmp_path / "pets") == {"train": 3}


def test_what_is_no_regular_file_is_not_read(tmp_path: Path) -> None:
    tree(tmp_path, "1.png", "2.png/")
    os.mkfifo(tmp_path / "3.png")
    assert walked(tmp_path)[:2] == ([tmp_path / "1.png"], [tmp_path / "3.png"])


def test_classes_that_differ_between_splits(tmp_path: Path) -> None:
    tree(tmp_path, *both("train"), "test/cat/1.png", "test/dog/", "val/cat/", "val/dog/")
    assert class_folders(tmp_path).notes == (
        "val holds no picture at all: val is taken out of train",
        "test holds no picture of dog",
    )
    assert sizes(tmp_path) == {"train": 4, "test": 1}
    tree(tmp_path, "test/eel/1.png")
    with pytest.raises(DataError, match=r"test/eel is a class that .*/train lacks$"):
        class_folders(tmp_path)


def test_a_class_in_other_letters_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"test/Cat is a class that .*/train lacks; rename it to cat"):
        class_folders(tree(tmp_path, *both("train"), "test/Cat/1.png"))


def test_empty_classes_are_told_at_once_with_what_they_hold(tmp_path: Path) -> None:
    tree(tmp_path, "cat/1.png", "dog/1.heic", "dog/a.TXT", "eel/")
    with pytest.raises(
        DataError, match=r"dog holds no picture \(.*\.jfif.*\), only \.heic, \.txt; nor do eel"
    ):
        class_folders(tmp_path)


def test_a_folder_within_a_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"got archive; data\.root={tmp_path}/archive"):
        class_folders(tree(tmp_path, *both("archive")))
    with pytest.raises(DataError, match=r"got train; move what is in .*/train/train up into"):
        class_folders(tree(tmp_path / "again", *both("train/train")))


def test_an_archive_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"pets\.zip is not a folder; unpack it"):
        class_folders(tree(tmp_path, "pets.zip") / "pets.zip")
