"""Data comes in as splits, from a file or a function, and what does not fit is named."""

import numpy as np
import pytest
import torch

from tailorbird.errors import InputShapeError, MissingFileError, UsageError
from tailorbird.flow.data import Batches, Splits, load_data, load_splits
from tailorbird.flow.inputs import InputSpec


def arrays(count=6):
    parts = {}
    for part in ("train", "validation", "test"):
        parts[f"{part}_x"] = np.random.default_rng(0).standard_normal((count, 1, 4, 4), dtype=np.float32)
        parts[f"{part}_y"] = np.arange(count) % 3
    return parts


def test_a_file_of_arrays_becomes_splits(tmp_path):
    np.savez(tmp_path / "data.npz", **arrays())
    splits = load_splits(str(tmp_path / "data.npz"))
    assert splits.train[0].shape == (6, 1, 4, 4)
    assert splits.test[1].dtype == torch.int64


def test_a_function_may_return_a_mapping_or_splits(tmp_path):
    np.savez(tmp_path / "data.npz", **arrays())
    (tmp_path / "mine.py").write_text(
        "import numpy as np, pathlib\n"
        "def load():\n"
        "    with np.load(pathlib.Path(__file__).with_name('data.npz')) as f:\n"
        "        return {name: f[name] for name in f.files}\n"
    )
    made = load_splits(f"{tmp_path}/mine.py:load")
    assert made.sha256() == load_splits(str(tmp_path / "data.npz")).sha256()
    assert load_splits("tailorbird.demo.data:digits").train[0].shape[1:] == (1, 32, 32)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: a.pop("test_y"), "lacks test_y"),
        (lambda a: a.update(train_y=np.arange(3)), "do not fit"),
        (lambda a: a.update(train_x=np.zeros((0, 1)), train_y=np.zeros(0)), "do not fit"),
    ],
)
def test_incomplete_or_unequal_arrays_are_refused(tmp_path, change, words):
    data = arrays()
    change(data)
    np.savez(tmp_path / "data.npz", **data)
    with pytest.raises(UsageError, match=words):
        load_splits(str(tmp_path / "data.npz"))


def test_labels_of_any_shape_are_classes_or_values_as_the_task_says(tmp_path):
    data = arrays() | {f"{part}_y": np.full((6, 4, 4), 1.5) for part in ("train", "validation", "test")}
    np.savez(tmp_path / "data.npz", **data)
    values = load_data(str(tmp_path / "data.npz"), "regression").train[1]
    assert (values.dtype, values.shape, float(values[0, 0, 0])) == (torch.float64, (6, 4, 4), 1.5)
    assert load_data(str(tmp_path / "data.npz"), "segmentation").train[1].dtype == torch.int64


def test_loaders_are_told_apart_by_their_source_and_are_no_splits(tmp_path):
    (tmp_path / "mine.py").write_text("def load():\n    return {'train': [1], 'validation': [2], 'test': [3]}\n")
    loaders = load_data(f"{tmp_path}/mine.py:load")
    assert (loaders.training(None, 0), loaders.calibration(), loaders.held_out()) == ([1], [1], [2])
    assert loaders.fitted([]) is loaders
    assert loaders.sha256() == load_data(f"{tmp_path}/mine.py:load").sha256()
    with pytest.raises(UsageError, match="returned loaders"):
        load_splits(f"{tmp_path}/mine.py:load")
    (tmp_path / "mine.py").write_text("def load():\n    return {'train': [1, 2], 'validation': [2]}\n")
    assert loaders.sha256() != load_data(f"{tmp_path}/mine.py:load").sha256()


def test_a_missing_or_damaged_file_is_named(tmp_path):
    with pytest.raises(MissingFileError):
        load_splits(str(tmp_path / "absent.npz"))
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(UsageError, match="cannot be read"):
        load_splits(str(tmp_path / "text.npz"))


def test_another_sample_shape_is_refused_with_the_flag_to_change():
    splits = load_splits("tailorbird.demo.data:digits")
    assert splits.fitted([InputSpec((1, 1, 32, 32))]) is splits
    with pytest.raises(InputShapeError) as caught:
        splits.fitted([InputSpec((1, 3, 32, 32))])
    assert "--input 1,1,32,32" in caught.value.fix


def test_data_for_a_network_that_takes_integers_become_integers():
    inputs = torch.tensor([[3.0, 1.0], [0.0, 2.0]])
    splits = Splits(*[(inputs, torch.tensor([0, 1]))] * 3)
    fitted = splits.fitted([InputSpec((1, 2), "int64")])
    assert fitted.test[0].dtype == torch.int64
    assert fitted.test[0].tolist() == [[3, 1], [0, 2]]


def test_data_for_a_network_with_two_inputs_are_refused():
    splits = Splits(*[(torch.zeros(2, 4), torch.tensor([0, 1]))] * 3)
    with pytest.raises(UsageError, match="takes 2 inputs"):
        splits.fitted([InputSpec((1, 4)), InputSpec((1, 4))])
    with pytest.raises(UsageError, match="has a name"):
        splits.fitted([InputSpec((1, 4), name="x", keyword=True)])


def test_batches_cover_the_split_and_shuffle_anew_each_time():
    split = (torch.arange(10).float(), torch.arange(10))
    plain = Batches(split, 4)
    assert len(plain) == 3
    assert torch.cat([y for _, y in plain]).tolist() == list(range(10))
    shuffled = Batches(split, 4, shuffle_seed=0)
    first, second = (torch.cat([y for _, y in shuffled]).tolist() for _ in range(2))
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second


def test_augmentation_touches_training_batches_alone():
    split = (torch.zeros(4, 1), torch.zeros(4))
    bump = lambda x, _random: x + 1  # noqa: E731
    assert next(iter(Batches(split, 4, augment=bump)))[0].sum() == 0
    assert next(iter(Batches(split, 4, shuffle_seed=0, augment=bump)))[0].sum() == 4


def test_the_content_hash_follows_the_content():
    one, two = load_splits("tailorbird.demo.data:digits"), load_splits("tailorbird.demo.data:digits")
    assert one.sha256() == two.sha256()
    changed = Splits(one.train, one.validation, (one.test[0] + 1, one.test[1]))
    assert changed.sha256() != one.sha256()
