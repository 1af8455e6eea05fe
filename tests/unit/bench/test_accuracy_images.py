"""The images of the accuracy benchmark: nothing that is judged was looked at before, and every run sees the same."""

from __future__ import annotations

import io
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.bench.accuracy.images import Images, _decoded, augmented, digits


@pytest.fixture(scope="module")
def images() -> Images:
    return digits()


def many(images: Images) -> Images:
    """The same held-out images in ten equal parts, each of which can be told by its number."""
    numbered = torch.arange(1000, dtype=torch.uint8)[:, None, None, None].expand(1000, 1, 2, 2)
    return replace(images, held=(numbered, torch.arange(1000)), evaluation=200, fold=200)


def test_no_fold_overlaps_another_or_the_evaluation_images(images: Images) -> None:
    folds = [set(range(1000)[many(images).validation(seed)]) for seed in range(4)]
    assert all(len(fold) == 200 and min(fold) >= 200 for fold in folds)
    assert len(set().union(*folds)) == 800
    with pytest.raises(ValueError, match="no fold 4"):
        many(images).validation(4)


def test_a_predictor_is_judged_on_images_that_neither_it_nor_training_saw(images: Images) -> None:
    several = many(images)
    for seed in range(4):
        unseen = set(np.flatnonzero(several.unseen(seed, 1000)))
        assert not unseen & set(range(1000)[several.validation(seed)])
        assert not unseen & set(range(1000)[several.validation(0)])
        assert set(range(200)) <= unseen
    assert several.unseen(0, 400).sum() == 200


def test_digits_hold_out_everything_they_do_not_train_on(images: Images) -> None:
    assert len(images.train[1]) + len(images.held[1]) == 1797
    assert images.evaluation + images.fold == len(images.held[1])


def test_training_batches_follow_from_seed_and_epoch(images: Images) -> None:
    def read(batches) -> torch.Tensor:
        return torch.cat([x for x, _ in batches])

    batches = images.training(32, seed=3)
    first, second = read(batches), read(batches)
    assert not torch.equal(first, second)
    again = images.training(32, seed=3)
    again.set_epoch(1)
    assert torch.equal(read(again), second)
    assert not torch.equal(read(images.training(32, seed=4)), first)
    assert len(first) == 32 * len(batches) == 32 * (len(images.train[1]) // 32)


def test_images_for_recalibration_are_moved_training_images_and_the_same_each_time(images: Images) -> None:
    drawn = [x for x, _ in images.recalibration(100)]
    assert all(torch.equal(x, y) for x, (y, _) in zip(drawn, images.recalibration(100), strict=True))
    assert sum(map(len, drawn)) == 100
    around = torch.nn.functional.pad(images.train[0], (images.shift,) * 4)
    windows = [around[:, :, top : top + 8, left : left + 8] for top in range(3) for left in range(3)]
    known = {row.numpy().tobytes() for window in windows for row in images.normalised(window)}
    assert all(row.numpy().tobytes() in known for x in drawn for row in x)


def test_images_for_judging_are_as_they_are_and_in_their_order(images: Images) -> None:
    part = slice(100, 400)
    batches = list(images.held_batches(part))
    assert torch.equal(torch.cat([x for x, _ in batches]), images.normalised(images.held[0][part]))
    assert torch.equal(torch.cat([y for _, y in batches]), images.held[1][part])


@pytest.mark.parametrize("mirror", [False, True])
def test_each_image_is_cropped_and_mirrored_on_its_own(mirror: bool) -> None:
    pixels = torch.randint(1, 255, (64, 3, 6, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    moved = augmented(pixels, torch.Generator().manual_seed(1), shift=2, mirror=mirror)
    places = set()
    for before, after in zip(pixels, moved, strict=True):
        padded = torch.nn.functional.pad(before, (2,) * 4)
        windows = {
            (top, left, flipped): padded[:, top : top + 6, left : left + 5].flip(2)
            if flipped
            else padded[:, top : top + 6, left : left + 5]
            for top in range(5)
            for left in range(5)
            for flipped in (False, True)
        }
        found = [place for place, window in windows.items() if torch.equal(window, after)]
        assert found
        places.add(found[0])
    assert len(places) > 15
    assert {flipped for _, _, flipped in places} == ({False, True} if mirror else {False})


def test_an_archive_of_folders_is_read_with_its_labels(tmp_path: Path) -> None:
    from PIL import Image

    with zipfile.ZipFile(tmp_path / "small.zip", "w") as files:
        for part in ("train", "test"):
            for label in range(10):
                for number in range(2):
                    buffer = io.BytesIO()
                    Image.new("RGB", (4, 4), (label, number, 7)).save(buffer, "PNG")
                    files.writestr(f"{part}/class{label}/{number}.png", buffer.getvalue())
    with zipfile.ZipFile(tmp_path / "small.zip") as files:
        arrays = _decoded(files)
    assert arrays["test_x"].shape == (20, 3, 4, 4)
    assert arrays["train_x"].dtype == np.uint8
    assert (arrays["train_x"][:, 0, 0, 0] == arrays["train_y"]).all()
    assert (arrays["test_x"][:, 2] == 7).all()
    with zipfile.ZipFile(tmp_path / "few.zip", "w") as files:
        files.writestr("train/class0/0.png", b"")
    with zipfile.ZipFile(tmp_path / "few.zip") as files, pytest.raises(ValueError, match="1 classes"):
        _decoded(files)
