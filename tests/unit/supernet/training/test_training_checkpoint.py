"""Checkpoints of training: what they are good for, and what is refused."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tailorbird.errors import ModelError, UsageError
from tailorbird.supernet import SuperNet, Task, elastic
from tailorbird.supernet.training.checkpoint import Checkpoint
from tailorbird.supernet.training.failure import TrainingError
from tailorbird.supernet.training.feed import Feed
from tailorbird.supernet.training.ranks import Alone
from tailorbird.supernet.training.recipe import Recipe
from tailorbird.supernet.training.run import Run
from tailorbird.supernet.training.saver import Saver
from tests.states import trained

X, Y = torch.randn(8, 6, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 3
DATA = [(X + number, Y) for number in range(4)]
EXAMPLE = (X[:2],)


def model(hidden: int = 16) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, hidden), nn.LayerNorm(hidden), nn.ReLU(), nn.Linear(hidden, 3)).eval()


@pytest.fixture(scope="module")
def compiled() -> SuperNet:
    return elastic(model(), EXAMPLE, divisor=4)


@pytest.fixture
def net(compiled: SuperNet) -> Iterator[SuperNet]:
    yield compiled
    compiled.load_state_dict(model().state_dict())
    compiled.rank("l2")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.pt"


def weights(net: SuperNet) -> dict[str, Tensor]:
    return trained(net)


def alike(net: SuperNet, expected: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, expected[name]) for name, value in trained(net).items())


def refused(net: SuperNet, path: Path, kind: type[Exception], loader: Any = DATA, **options: Any) -> str:
    """The message; neither the file nor the network may have changed."""
    file, before = path.read_bytes(), weights(net)
    with pytest.raises(kind) as raised:
        net.fit(loader, **({"steps": 6, "checkpoint": path, "resume": True} | options))
    assert path.read_bytes() == file
    assert alike(net, before)
    return str(raised.value)


def test_a_checkpoint_is_a_saved_supernet_too(net: SuperNet, path: Path) -> None:
    net.fit(DATA, steps=3, checkpoint=path)
    back = SuperNet.load(path, model(), EXAMPLE)
    config = net.space.smallest()
    with torch.no_grad():
        assert torch.equal(back(X), net(X))
        assert torch.equal(back(X, config=config), net(X, config=config))


def test_a_checkpoint_holds_the_network_as_the_guard_left_it(net: SuperNet, path: Path) -> None:
    scores = itertools.chain([1.0], itertools.repeat(0.0))
    result = net.fit(DATA, steps=3, checkpoint=path, validate=lambda _: next(scores), lr=1.0, full="trained")
    assert result.update_kept == 0
    assert alike(SuperNet.load(path, model(), EXAMPLE), weights(net))
    assert alike(net, model().state_dict())


def test_a_checkpoint_is_not_overwritten_by_a_new_run(net: SuperNet, path: Path) -> None:
    net.fit(DATA, steps=3, checkpoint=path)
    assert "go on from it with resume=True" in refused(net, path, UsageError, resume=False)


def test_paths_that_cannot_be_are_refused_before_training(net: SuperNet, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"there can be no checkpoint at .*[\s\S]*(Not a directory|File exists)"):
        net.fit(DATA, checkpoint=tmp_path / "file" / "run.pt")
    with pytest.raises(UsageError, match="is a folder"):
        net.fit(DATA, checkpoint=tmp_path)
    with pytest.raises(UsageError, match="nothing to resume from"):
        net.fit(DATA, resume=True)
    for name in ("x" * 300, "a\0b"):
        with pytest.raises(UsageError, match="there can be no checkpoint"):
            net.fit(DATA, checkpoint=tmp_path / name)
    for every in (0, -3, "soon", True, 2.5, None):
        with pytest.raises(UsageError):
            net.fit(DATA, checkpoint=tmp_path / "none" / "run.pt", every=every)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_the_folder_of_a_checkpoint_is_made(net: SuperNet, tmp_path: Path) -> None:
    path = tmp_path / "some" / "runs" / "run.pt"
    net.fit(DATA, steps=1, checkpoint=path)
    assert net.fit(DATA, steps=2, checkpoint=path, resume=True).resumed_at == 1


def test_resuming_clears_away_what_a_killed_run_left_half_written(net: SuperNet, path: Path) -> None:
    net.fit(DATA, steps=1, checkpoint=path)
    left = path.with_name(f".{path.name}.{'0' * 16}.partial")
    left.write_bytes(b"half")
    net.fit(DATA, steps=1, checkpoint=path, resume=True)  # nothing is left to do, nor written
    assert not left.exists()


def test_resuming_without_a_file_starts_anew_and_resuming_what_is_done_does_nothing(net: SuperNet, path: Path) -> None:
    first = net.fit(DATA, steps=6, checkpoint=path, resume=True)
    done, steps = weights(net), []
    net.load_state_dict(model().state_dict())
    again = net.fit(DATA, steps=6, checkpoint=path, resume=True, on_progress=steps.append)
    assert steps == []
    assert (again.steps, again.resumed_at, first.resumed_at) == (6, 6, 0)
    assert (again.first_loss, again.last_loss, again.seconds) == (first.first_loss, first.last_loss, first.seconds)
    assert alike(net, done)


def test_a_run_may_be_made_longer(net: SuperNet, path: Path) -> None:
    net.fit(DATA, epochs=1, checkpoint=path)
    seen: list[Any] = []
    result = net.fit(DATA, epochs=3, checkpoint=path, resume=True, on_progress=seen.append)
    assert [now.step for now in seen] == list(range(5, 13))
    assert (result.steps, result.resumed_at) == (12, 4)
    assert seen[0].share == pytest.approx(5 / 12)
    assert seen[0].learning_rate > seen[-1].learning_rate > 0


def test_time_that_was_spent_before_counts(net: SuperNet, path: Path) -> None:
    def clock() -> Callable[[], float]:
        ticks = itertools.count()
        return lambda: float(next(ticks))

    short = net.fit(DATA, budget=10.0, checkpoint=path, clock=clock())
    assert short.stopped_by == "budget"
    longer = net.fit(DATA, budget=30.0, checkpoint=path, resume=True, clock=clock())
    assert short.seconds <= 10 < longer.seconds <= 30
    assert longer.steps > short.steps
    whole = net.fit(DATA, budget=30.0, clock=clock())
    assert abs(whole.steps - longer.steps) <= 2


def test_what_fails_in_the_middle_can_go_on_from_there(net: SuperNet, path: Path) -> None:
    class Fragile:
        broken = True

        def __len__(self) -> int:
            return len(DATA)

        def __iter__(self) -> Iterator[Any]:
            for number, batch in enumerate(DATA):
                if self.broken and number == 2:
                    raise OSError("the share went away")
                yield batch

    loader = Fragile()
    with pytest.raises(OSError, match="the share went away"):
        net.fit(loader, epochs=2, checkpoint=path)
    last = weights(net)
    net.load_state_dict(model().state_dict())
    loader.broken = False
    assert net.fit(loader, epochs=2, checkpoint=path, resume=True).resumed_at == 2
    resumed = weights(net)
    assert not alike(net, last)
    net.load_state_dict(model().state_dict())
    net.fit(loader, epochs=2)
    assert alike(net, resumed)


def test_a_loss_that_is_not_finite_leaves_the_last_good_checkpoint(net: SuperNet, path: Path) -> None:
    data = [*DATA[:3], (X * torch.nan, Y)]
    with pytest.raises(TrainingError, match="in step 4"):
        net.fit(data, epochs=2, checkpoint=path, every=2)
    assert net.fit(DATA, steps=8, checkpoint=path, resume=True).resumed_at == 2


# -- what does not belong together


def test_a_checkpoint_of_another_network_is_refused(net: SuperNet, path: Path) -> None:
    net.fit(DATA, steps=3, checkpoint=path)
    other = elastic(model(24), EXAMPLE, divisor=4)
    message = refused(other, path, ModelError)
    assert "belongs to another network" in message
    assert "weights.0.weight is float32 (24, 6), in the checkpoint float32 (16, 6)" in message
    message = refused(elastic(model(), EXAMPLE, divisor=8), path, ModelError)
    assert "dimensions" in message
    net.weights[0].requires_grad_(False)
    message = refused(net, path, ModelError)
    net.weights[0].requires_grad_(True)
    assert "trained: weights.0.weight is False, in the checkpoint True" in message


def test_a_checkpoint_of_another_kind_of_run_is_refused(net: SuperNet, path: Path) -> None:
    net.fit(DATA, steps=3, checkpoint=path)
    message = refused(net, path, UsageError, lr=0.5, n_random=3)
    assert "lr is 0.5, in the checkpoint None; n_random is 3, in the checkpoint 2" in message
    message = refused(net, path, UsageError, task=Task.of("regression"))
    assert "name is regression, in the checkpoint classification" in message
    assert "loss" in refused(net, path, UsageError, loss=nn.functional.nll_loss)
    assert "this run is with validation" in refused(net, path, UsageError, validate=DATA)
    assert "it has 3 batches, 4 before" in refused(net, path, UsageError, loader=DATA[:3])


def test_a_loader_that_turns_out_shorter_is_refused(net: SuperNet, path: Path) -> None:
    class Of:
        def __init__(self, count: int) -> None:
            self.count = count

        def __iter__(self) -> Iterator[Any]:
            return iter(DATA[: self.count])

    net.fit(Of(4), steps=3, checkpoint=path)
    with pytest.raises(UsageError, match=r"it gave 2 batches in pass 1, 3 were done before"):
        net.fit(Of(2), steps=6, checkpoint=path, resume=True)


def test_files_that_are_no_checkpoint_are_refused(net: SuperNet, path: Path) -> None:
    net.save(path)
    assert "no checkpoint of a training run" in refused(net, path, ModelError)
    path.write_bytes(b"junk")
    assert "cannot be read" in refused(net, path, ModelError)
    path.unlink()
    net.fit(DATA, steps=3, checkpoint=path)
    saved = torch.load(path, weights_only=True)
    saved["training"]["format"] = 99
    torch.save(saved, path)
    assert "has format 99" in refused(net, path, ModelError)


def test_a_damaged_checkpoint_is_refused_wherever_the_damage_is(net: SuperNet, path: Path) -> None:
    net.fit(DATA, steps=3, checkpoint=path)
    good = path.read_bytes()
    for size in (0, 1, len(good) // 3, len(good) // 2, len(good) - 1):
        path.write_bytes(good[:size])
        assert "cannot be read" in refused(net, path, ModelError)
    # Every tensor is stored as it is in memory: a flipped bit in one must not go unnoticed.
    for value in trained(net).values():
        place = good.find(value.numpy().tobytes())
        assert place > 0
        path.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
        assert "cannot be read" in refused(net, path, ModelError)


# -- how often


class Slow(Checkpoint):
    """A disk that takes a while, by a clock of its own."""

    def __init__(self, seconds: float) -> None:
        super().__init__("unused")
        self.now, self.seconds, self.written = 0.0, seconds, 0

    def write(self, *_: Any) -> None:
        self.now += self.seconds
        self.written += 1


@pytest.mark.parametrize(("seconds", "least", "most"), [(0.001, 15, 17), (0.5, 15, 17), (5.0, 3, 5)])
def test_checkpoints_take_little_of_the_time(net: SuperNet, seconds: float, least: int, most: int) -> None:
    run = Run(net, Feed(DATA, net.device, 0), Recipe(steps=1), Task.of(), None, Alone())
    slow = Slow(seconds)
    saver = Saver(slow, Task.of(), "60s", lambda: slow.now)
    saver.begin(run, new=True)
    while slow.now < 1000:
        slow.now += 1
        saver.after(run)
    assert least <= slow.written <= most
    assert slow.written * seconds <= 0.02 * slow.now + seconds
