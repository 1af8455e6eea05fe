"""The cost network and its ways of adapting: what it learns, what it refuses, what it keeps."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from tailorbird.compile.tvm.target import compiler
from tailorbird.errors import MissingFileError, UsageError
from tailorbird.tune.cost import default
from tailorbird.tune.cost.adapt import MODES, Averaged, adaptation, largest
from tailorbird.tune.cost.controller import Seen, ThreeSigns, Variation, pairwise_accuracy
from tailorbird.tune.cost.corpus import Corpus, Task, labels_of, merged, read_corpus, write_corpus
from tailorbird.tune.cost.default import default_costs
from tailorbird.tune.cost.device import DEVICE_FIELDS, device_vector
from tailorbird.tune.cost.errors import CostModelError
from tailorbird.tune.cost.features import WIDTH
from tailorbird.tune.cost.network import Batch, CostNetwork, NetworkShape, rank_loss, scores_of
from tailorbird.tune.cost.saved import load, save
from tailorbird.tune.cost.training import Schedule, pretrain, train
from tailorbird.types.schedule import DeviceClass

OLD = DeviceClass("x86_64-linux-gnu", "x86-64-v2", 1, "cpu", 2, ("sse4_2",), (32 << 10, 1 << 20, 32 << 20))
NEW = DeviceClass("x86_64-linux-gnu", "x86-64-v4", 1, "cpu", 2, ("avx2", "avx512f", "fma"), (32 << 10, 1 << 20, 0))
SMALL = NetworkShape(width=32)


def made_up(key: str, boards: DeviceClass = OLD, count: int = 24, sign: float = 1.0) -> Task:
    """A kernel whose schedules take longer with feature 3 (on a board with `sign` -1, shorter) and less with 7."""
    rng = np.random.default_rng(int.from_bytes(key.encode(), "big"))
    features = [rng.uniform(0, 12, (rng.integers(1, 4), WIDTH)).astype(np.float32) for _ in range(count)]
    for each in features:
        each[:, 20:] = 5.0
    slow = np.array([sign * each[:, 3].mean() - each[:, 7].mean() for each in features])
    return Task(key, f"net/{key}", "net", boards, tuple(features), 10.0 * np.exp(slow / 6.0))


def corpus(*tasks: Task) -> Corpus:
    return Corpus(tasks, "apache-tvm 0.27")


def accuracy(network: CostNetwork, task: Task) -> float:
    return pairwise_accuracy(scores_of(network, task).tolist(), task.times_us.tolist())


@pytest.fixture(scope="module")
def pretrained() -> CostNetwork:
    return pretrain(corpus(*(made_up(f"k{n}") for n in range(20))), SMALL, Schedule(epochs=40), seed=1)


def test_an_order_learnt_on_some_kernels_holds_for_others(pretrained: CostNetwork) -> None:
    assert accuracy(pretrained, made_up("unseen")) > 0.85
    assert accuracy(CostNetwork(SMALL), made_up("unseen")) < 0.75


def test_training_is_repeatable() -> None:
    tasks = corpus(made_up("a"), made_up("b"))
    one, two = (pretrain(tasks, SMALL, Schedule(epochs=2), seed=3) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_tasks_are_never_compared_with_each_other() -> None:
    near, far = made_up("a"), made_up("b")
    scores = torch.randn(48, requires_grad=True)
    alone = [rank_loss(scores[part], Batch.of([task])) for part, task in ((slice(24), near), (slice(24, 48), far))]
    shifted = scores + torch.cat([torch.zeros(24), torch.full((24,), 50.0)])
    assert torch.allclose(
        rank_loss(scores, Batch.of([near, far])), rank_loss(shifted, Batch.of([near, far])), atol=1e-5
    )
    assert min(alone) <= rank_loss(scores, Batch.of([near, far])) <= max(alone)


def test_scores_do_not_depend_on_what_is_scored_beside(pretrained: CostNetwork) -> None:
    task = made_up("c")
    assert np.allclose(scores_of(pretrained, task)[:5], scores_of(pretrained, task.only(range(5))), atol=1e-5)


def test_a_feature_without_variation_is_left_out() -> None:
    task = made_up("d")
    for each in task.features:
        each[:, 100] = 7.0
    network = pretrain(corpus(task), SMALL, Schedule(epochs=1))
    other = copy.deepcopy(task)
    for each in other.features:
        each[:, 100] = 700.0
    assert np.array_equal(scores_of(network, task), scores_of(network, other))


@pytest.mark.parametrize("mode", sorted(set(MODES) - {"zero-shot"}))
def test_each_mode_learns_what_is_different_on_the_device(mode: str, pretrained: CostNetwork) -> None:
    records, held_out = [made_up(f"r{n}", NEW, sign=-1.0) for n in range(6)], made_up("held out", NEW, sign=-1.0)
    way = adaptation(mode, pretrained, shape=SMALL, seed=0)
    before = accuracy(way.network, held_out)
    for rounds in (2, 4, 6):
        way.update(records[:rounds])
    assert accuracy(way.network, held_out) > before + 0.05


def test_adapting_leaves_the_pretrained_network_alone(pretrained: CostNetwork) -> None:
    before = copy.deepcopy(pretrained.state_dict())
    for mode in MODES:
        adaptation(mode, pretrained, shape=SMALL).update([made_up("x", NEW)])
    assert all(torch.equal(value, before[name]) for name, value in pretrained.state_dict().items())


def test_zero_shot_learns_nothing(pretrained: CostNetwork) -> None:
    way = adaptation("zero-shot", pretrained)
    way.update([made_up("x", NEW)])
    assert np.array_equal(scores_of(way.network, made_up("y")), scores_of(pretrained, made_up("y")))


@settings(deadline=None)  # the machine may be busy
@given(ratio=st.floats(0.01, 1.0), count=st.integers(1, 200))
def test_the_mask_keeps_the_share_with_the_largest_product(ratio: float, count: int) -> None:
    generator = torch.Generator().manual_seed(count)
    weight, gradient = (torch.rand(count, generator=generator) + 0.01 for _ in range(2))
    kept = largest(ratio)(weight, gradient)
    assert int(kept.sum()) == max(1, round(ratio * count))
    products = weight * gradient
    assert kept.all() or products[kept].min() >= products[~kept].max()


def test_weights_outside_the_mask_only_decay(pretrained: CostNetwork) -> None:
    network = copy.deepcopy(pretrained)
    before = [each.detach().clone() for each in network.parameters()]
    schedule = Schedule(epochs=1, rate=0.1, weight_decay=0.5)
    train(
        network, [made_up("x", NEW)], schedule, 0, masked=lambda weight, _: torch.zeros_like(weight, dtype=torch.bool)
    )
    for now, then in zip(network.parameters(), before, strict=True):
        assert torch.allclose(now, then * 0.95)


def test_the_average_moves_less_than_the_network(pretrained: CostNetwork) -> None:
    way = Averaged(copy.deepcopy(pretrained), momentum=0.9)
    way.update([made_up("x", NEW)])
    quick = (way.network.encode[0].weight - pretrained.encode[0].weight).detach()
    slow = (way._slow.encode[0].weight - pretrained.encode[0].weight).detach()
    assert torch.allclose(slow, 0.1 * quick, atol=1e-6)
    assert quick.abs().max().item() > 0


# -- bad data


def test_failures_and_nonsense_are_labelled_as_failures() -> None:
    labels = labels_of(np.array([2.0, math.nan, 4.0, math.inf, -1.0, 0.0]))
    assert labels.tolist() == [1.0, 0.0, 0.5, 0.0, 0.0, 0.0]
    assert labels_of(np.array([math.nan, math.nan])).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("times", [[5.0], [5.0, 5.0], [math.nan, math.nan], []])
def test_records_without_an_order_teach_nothing_and_break_nothing(times: list[float], pretrained: CostNetwork) -> None:
    task = made_up("x", NEW, count=len(times))
    task = Task("x", "x", "", NEW, task.features, np.array(times))
    way = adaptation("fine-tune", pretrained)
    way.update([task])
    assert all(torch.equal(a, b) for a, b in zip(way.network.parameters(), pretrained.parameters(), strict=True))
    with pytest.raises(CostModelError, match="nothing to train"):
        pretrain(corpus(task), SMALL)


def test_nan_among_the_times_leaves_the_weights_finite(pretrained: CostNetwork) -> None:
    task = made_up("x", NEW)
    task.times_us[::3] = math.nan
    way = adaptation("fine-tune", pretrained)
    way.update([task])
    assert all(bool(torch.isfinite(each).all()) for each in way.network.parameters())


def test_modes_that_cannot_begin_say_so() -> None:
    with pytest.raises(CostModelError, match="needs a pretrained"):
        adaptation("fine-tune")
    with pytest.raises(UsageError, match="no cost-model mode 'best'"):
        adaptation("best")


def test_corpora_of_two_compilers_are_not_mixed() -> None:
    with pytest.raises(CostModelError, match="learnt from together"):
        merged([corpus(made_up("a")), Corpus((made_up("b"),), "apache-tvm 0.28")])
    assert merged([corpus(made_up("a")), corpus(made_up("b"))]).records == 48


# -- files


def test_a_corpus_survives_its_file_with_shared_features_stored_once(tmp_path: Path) -> None:
    on_old = made_up("a")
    on_old.times_us[3] = math.nan
    on_new = Task("a", "net/a", "net", NEW, on_old.features, on_old.times_us * 0.5)
    write_corpus(corpus(on_old), tmp_path / "one.npz")
    write_corpus(corpus(on_old, on_new, made_up("b", NEW)), tmp_path / "c.npz")
    read = read_corpus(tmp_path / "c.npz")
    assert [(task.workload, task.network, task.boards) for task in read.tasks] == [
        ("a", "net", OLD),
        ("a", "net", NEW),
        ("b", "net", NEW),
    ]
    for found, given_ in zip(read.tasks, (on_old, on_new), strict=False):
        assert np.allclose(found.times_us, given_.times_us, rtol=1e-6, equal_nan=True)
        assert all(np.allclose(a, b, atol=0.01) for a, b in zip(found.features, given_.features, strict=True))
    assert (tmp_path / "c.npz").stat().st_size < 2.2 * (tmp_path / "one.npz").stat().st_size


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not a zip", json.dumps({"schema": "x"}).encode()])
def test_damaged_records_are_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "c.npz"
    path.write_bytes(content)
    with pytest.raises(CostModelError, match="holds no records"):
        read_corpus(path)
    with pytest.raises(MissingFileError):
        read_corpus(tmp_path / "absent.npz")


def test_a_truncated_corpus_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.npz"
    write_corpus(corpus(made_up("a")), path)
    with np.load(path) as stored:
        arrays = dict(stored)
    np.savez_compressed(path, **(arrays | {"times_us": arrays["times_us"][:-1]}))
    with pytest.raises(CostModelError, match="ends too early"):
        read_corpus(path)


def test_a_saved_network_scores_as_before_and_is_known_by_its_content(tmp_path: Path, pretrained: CostNetwork) -> None:
    digest = save(pretrained, tmp_path / "m.safetensors", compiler="tvm 1", records=7, boards=("a",))
    found = load(tmp_path / "m.safetensors", compiler="tvm 1")
    assert (found.digest, found.records, found.boards) == (digest, 7, ("a",))
    task = made_up("x", NEW)
    assert np.array_equal(scores_of(found.network, task), scores_of(pretrained, task))
    other = copy.deepcopy(pretrained)
    with torch.no_grad():
        other.mean[5] += 1e-3
    assert save(other, tmp_path / "o.safetensors", compiler="tvm 1", records=7, boards=("a",)) != digest


def test_a_network_that_is_damaged_or_of_another_compiler_is_refused(tmp_path: Path, pretrained: CostNetwork) -> None:
    path = tmp_path / "m.safetensors"
    save(pretrained, path, compiler="tvm 1", records=7, boards=())
    with pytest.raises(CostModelError, match="does not know the features of tvm 2"):
        load(path, compiler="tvm 2")
    damaged = bytearray(path.read_bytes())
    damaged[-5] ^= 0x41
    path.write_bytes(bytes(damaged))
    with pytest.raises(CostModelError, match="not what was saved"):
        load(path)
    path.write_bytes(bytes(damaged[: len(damaged) // 2]))
    with pytest.raises(CostModelError, match="no cost model"):
        load(path)
    save_file({"x": torch.zeros(2)}, path)
    assert load_file(path)
    with pytest.raises(CostModelError, match="no cost model"):
        load(path)
    with pytest.raises(MissingFileError):
        load(tmp_path / "absent.safetensors")


def test_the_shipped_model_is_whole_and_knows_this_compiler() -> None:
    found = load(compiler=compiler())
    assert found.records >= 20 * 64 * 3
    assert len(found.boards) >= 3


def test_under_another_compiler_tuning_starts_from_scratch(monkeypatch: pytest.MonkeyPatch) -> None:
    at_home = default_costs(NEW).adaptation.network
    assert np.array_equal(at_home.mean, load().network.mean)
    monkeypatch.setattr(default, "compiler", lambda: "apache-tvm 9")
    assert not np.array_equal(default_costs(NEW).adaptation.network.mean, at_home.mean)


def test_a_model_that_the_user_names_is_not_replaced(tmp_path: Path, pretrained: CostNetwork) -> None:
    save(pretrained, tmp_path / "m.safetensors", compiler="tvm 1", records=7, boards=())
    with pytest.raises(CostModelError, match="does not know the features"):
        default_costs(NEW, pretrained=tmp_path / "m.safetensors")


# -- devices


def test_the_device_vector_tells_classes_apart_and_stands_for_what_is_unknown() -> None:
    assert device_vector(OLD).shape == (len(DEVICE_FIELDS),)
    assert not np.array_equal(device_vector(OLD), device_vector(NEW))
    unknown = device_vector(DeviceClass.from_target("x86_64-linux-gnu generic threads=1"))
    assert unknown.tolist() == [0.0] * len(DEVICE_FIELDS)
    assert device_vector(DeviceClass("aarch64-linux-gnu", "cortex-a76", 4))[0] == 2.0


def test_a_device_never_seen_in_training_says_nothing_at_first() -> None:
    network = CostNetwork(SMALL)
    task = made_up("a")
    assert np.array_equal(
        scores_of(network, task), scores_of(network, Task("a", "", "", NEW, task.features, task.times_us))
    )


# -- controllers


def seen(*pairs: tuple[float, float]) -> Seen:
    return Seen(tuple(score for score, _ in pairs), tuple(time for _, time in pairs))


SURE = ((1.0, 10.0), (0.9, 11.0), (0.8, 12.0), (0.7, 14.0))


def test_moses_stops_on_steady_predictions_however_wrong_they_are() -> None:
    controller = Variation(batches=3, limit=0.05)
    wrong = seen(*((score, 1.0 / time) for score, time in SURE))
    assert [controller.observe(wrong) for _ in range(3)] == [False, False, True]


def test_ours_stops_only_when_steady_right_and_stalled() -> None:
    right, wrong = seen(*SURE), seen(*((score, 40.0 - time) for score, time in SURE))
    assert [ThreeSigns().observe(right) for _ in range(3)] == [False, False, False]  # one batch says nothing
    stalled = ThreeSigns()
    assert [stalled.observe(right) for _ in range(3)][-1]
    mistaken = ThreeSigns()
    assert not any(mistaken.observe(wrong) for _ in range(6))
    gaining = ThreeSigns()
    faster = [seen(*((score, time * 0.9**step) for score, time in SURE)) for step in range(6)]
    assert not any(gaining.observe(batch) for batch in faster)
    swaying = ThreeSigns(limit=0.2)
    assert not any(swaying.observe(seen(*((score + 4 * (-1) ** n, time) for score, time in SURE))) for n in range(6))


def test_failed_batches_never_settle_a_kernel() -> None:
    controller = ThreeSigns()
    assert not any(controller.observe(seen((1.0, math.nan), (0.5, math.nan))) for _ in range(5))


def test_pairwise_accuracy_counts_pairs() -> None:
    assert pairwise_accuracy([3.0, 2.0, 1.0], [1.0, 2.0, 3.0]) == 1.0
    assert pairwise_accuracy([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]) == 0.0
    assert pairwise_accuracy([1.0, 1.0], [1.0, 2.0]) == 0.5
    assert pairwise_accuracy([1.0], [1.0]) == 0.5
    assert pairwise_accuracy([2.0, 1.0], [1.0, math.nan]) == 1.0
