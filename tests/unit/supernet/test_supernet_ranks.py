"""Two real processes train one SuperNet: equal weights, and the gradient of the whole batch."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from tailorbird.errors import UsageError
from tailorbird.supernet import SuperNet, elastic
from tailorbird.supernet.training import distributed
from tailorbird.supernet.training.failure import TrainingError
from tailorbird.supernet.training.recipe import Recipe
from tailorbird.supernet.training.sampler import Sampler
from tailorbird.supernet.training.schedule import factor
from tests.ranks import SIZE, Failed, Pair

Arrays = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    both = Pair()
    yield both
    both.close()


class Norms(nn.Module):
    """A perceptron with layer_norm and a residual block."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Linear(6, 16), nn.LayerNorm(16), nn.GELU())
        self.body = nn.Sequential(nn.Linear(16, 16), nn.LayerNorm(16), nn.GELU())
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(x + self.body(x))


class Batched(nn.Module):
    """The same with batch_norm, and a buffer that nothing may change."""

    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.rand(6) + 0.1)
        self.stem = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU())
        self.body = nn.Sequential(nn.Linear(16, 16), nn.BatchNorm1d(16), nn.ReLU())
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x * self.scale)
        return self.head(x + self.body(x))


class Noisy(Batched):
    """The same with dropout, and a buffer of its own on each rank: it counts the samples of its passes."""

    seen: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))
        self.body.append(nn.Dropout(0.2))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.seen += len(x)
        return super().forward(x)


def made(kind: type[nn.Module], seed: int = 0) -> SuperNet:
    torch.manual_seed(seed)
    return elastic(kind().eval(), (torch.randn(2, 6),), divisor=4)


def points(count: int, seed: int = 1) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 6, generator=generator)
    return TensorDataset(x, (x[:, 0] + x[:, 1] > 0).long() + (x[:, 2] > 0.5).long())


def arrays(net: SuperNet) -> Arrays:
    return {name: value.detach().numpy().copy() for name, value in nn.Module.state_dict(net).items()}


def same(left: Arrays, right: Arrays) -> bool:
    return left.keys() == right.keys() and all(np.array_equal(left[name], right[name]) for name in left)


def close(left: Arrays, right: Arrays, tolerance: float = 1e-5) -> None:
    assert left.keys() == right.keys()
    for name, value in left.items():
        np.testing.assert_allclose(value, right[name], rtol=0, atol=tolerance, err_msg=name)


class Counted:
    """Counts what goes through torch.distributed."""

    def __init__(self) -> None:
        self.calls: dict[str, int] = {}
        self._own = {name: getattr(dist, name) for name in ("all_reduce", "broadcast", "all_gather", "barrier")}

    def __enter__(self) -> Counted:
        for name, function in self._own.items():

            def counting(*args: Any, _name: str = name, _function: Any = function, **kwargs: Any) -> Any:
                self.calls[_name] = self.calls.get(_name, 0) + 1
                return _function(*args, **kwargs)

            setattr(dist, name, counting)
        return self

    def __exit__(self, *_: object) -> None:
        for name, function in self._own.items():
            setattr(dist, name, function)


# -- what runs on each rank


def trained(rank: int, kind: type[nn.Module], count: int, batch: int, settings: dict[str, Any]) -> tuple[Arrays, Any]:
    net = made(kind, seed=rank)  # each rank starts from weights of its own: rank 0's are taken
    result = net.fit(DataLoader(points(count), batch), **({"precision": "float32", "full": "trained"} | settings))
    return arrays(net), (result.steps, result.images, result.last_loss)


def in_a_group_of_the_script(rank: int, path: str) -> tuple[Arrays, bool]:
    dist.init_process_group("gloo", init_method=f"file://{path}", rank=rank, world_size=SIZE)
    try:
        found, _ = trained(rank, Norms, 32, 8, {"epochs": 1})
        total = torch.ones(1)
        dist.all_reduce(total)
        return found, float(total) == SIZE
    finally:
        dist.destroy_process_group()


def guarded(rank: int) -> tuple[Arrays, Any]:
    net, told = made(Batched, seed=rank), []
    result = net.fit(
        DataLoader(points(96), 16, shuffle=True),
        steps=12,
        lr=3.0,
        soft=0.0,
        full="trained",
        precision="float32",
        validate=DataLoader(points(70, 2), 16),
        on_progress=told.append,
    )
    now = (result.full_before, result.full_after, result.update_kept, result.backed_off)
    return arrays(net), (now, len(told))


def judged_by_function(rank: int) -> Any:
    result = made(Norms).fit(DataLoader(points(32), 8), steps=2, validate=lambda _net: 0.5 + rank / 4)
    return result.full_before, result.full_after


def counted(rank: int, steps: int, random: int) -> dict[str, int]:
    del rank
    net = made(Batched)
    with Counted() as count:
        net.fit(DataLoader(points(64), 16), steps=steps, n_random=random, budget=1000.0, precision="float32")
    return count.calls


def dealt_out(rank: int, cut: bool | None) -> tuple[Arrays, int]:
    data = points(48)
    sampler = DistributedSampler(data, num_replicas=SIZE, rank=rank, shuffle=False)
    net = made(Norms)
    result = net.fit(DataLoader(data, 8, sampler=sampler), epochs=1, sharded=cut, precision="float32", ema=0.0)
    return arrays(net), result.images


def within_a_budget(rank: int) -> tuple[Arrays, Any]:
    net = made(Norms)
    hours = iter(range(0, 100_000, 1 if rank == 0 else 500))  # the clock of rank 1 runs fast
    result = net.fit(DataLoader(points(64), 16), budget=40.0, clock=lambda: float(next(hours)))
    return arrays(net), (result.stopped_by, result.steps)


def not_a_number(rank: int) -> Any:
    data = [list(batch) for batch in DataLoader(points(32), 8)]
    data[2][0][0 if rank == 0 else 7] = float("nan")  # of both, or of the part of one rank alone
    data[2][0][0] = 0.0
    net = made(Batched)
    before_bad = made(Batched)
    before_bad.fit(data[:2], steps=2, ema=0.0, full="trained")
    try:
        net.fit(data, steps=4, ema=0.0, full="trained")
    except TrainingError as error:
        return error.reason, str(error), arrays(net)
    return None


def endless(rank: int) -> None:
    made(Norms).fit(Breaks(rank, "never"), epochs=1)


def in_parts(rank: int, kind: type[nn.Module], path: str | None, stops: tuple[int, ...]) -> tuple[Arrays, Any]:
    """One run; with a path it is interrupted after some steps and goes on in another network."""
    told = []
    for stop in (*stops, None):

        def on_progress(now: Any, stop: int | None = stop) -> None:
            if now.step == stop:
                os.kill(os.getpid(), signal.SIGINT)

        net = made(kind, seed=rank if path is None or not told else 7)
        checkpoint = {} if path is None else {"checkpoint": path, "resume": True}
        result = net.fit(
            DataLoader(points(70), 16, shuffle=True),
            epochs=3,
            lr=0.1,
            precision="float32",
            validate=DataLoader(points(70, 2), 16),
            on_progress=on_progress,
            **checkpoint,
        )
        told.append((result.stopped_by, result.steps, result.resumed_at))
    figures = (result.images, result.first_loss, result.last_loss, result.full_before, result.full_after)
    return arrays(net), (told, figures)


def unlike(rank: int) -> None:
    made(Norms).fit(DataLoader(points(32), 8), steps=2, n_random=1 + rank)


def other_networks(rank: int) -> None:
    made((Norms, Batched)[rank]).fit(DataLoader(points(32), 8), steps=2)


class Breaks:
    """A loader of unknown length that fails, or kills its process, on one rank."""

    def __init__(self, rank: int, how: str) -> None:
        self._rank, self._how = rank, how

    def __iter__(self) -> Iterator[Any]:
        for index, batch in enumerate(DataLoader(points(64), 8)):
            if self._rank == 1 and index == 2 and self._how == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            if self._rank == 1 and index == 2 and self._how == "raises":
                raise OSError("an image is damaged")
            yield batch


def broken(rank: int, how: str) -> Any:
    net = made(Norms)
    try:
        net.fit(Breaks(rank, how), steps=6)
    except (TrainingError, OSError) as error:
        return getattr(error, "reason", ""), str(error), all(np.isfinite(value).all() for value in arrays(net).values())
    return None


# -- what must hold


def test_ranks_that_start_apart_end_with_the_same_bits(pair: Pair) -> None:
    (left, told), (right, told_right) = pair.good(trained, Batched, 80, 16, {"epochs": 2, "seed": 3})
    assert same(left, right)
    assert told == told_right
    assert told[:2] == (10, 160)
    assert not np.array_equal(left["weights.head.weight"], made(Batched).weights.head.weight.detach().numpy())
    assert np.array_equal(left["weights.scale"], made(Batched).weights.scale.numpy())


def test_a_group_of_the_script_is_joined_and_left_alone(pair: Pair, tmp_path: Path) -> None:
    (left, works), (right, works_right) = pair.good(in_a_group_of_the_script, str(tmp_path / "store"))
    assert same(left, right)
    assert works
    assert works_right


def test_the_guard_decides_alike_on_all_ranks_and_rank_0_alone_tells(pair: Pair) -> None:
    (left, (now, told)), (right, (now_right, told_right)) = pair.good(guarded)
    assert same(left, right)
    assert now == now_right
    assert now[0] - now[1] <= 0.003
    assert now[2] < 1 or now[3] > 0  # there was something to protect
    assert (told, told_right) == (12, 0)


def test_where_a_function_judges_rank_0_is_right(pair: Pair) -> None:
    assert pair.good(judged_by_function) == [(0.5, 0.5)] * 2


@pytest.mark.parametrize("kind", [Norms, Noisy])
def test_a_run_of_two_ranks_that_is_stopped_and_resumed_ends_with_the_same_bits(
    pair: Pair, tmp_path: Path, kind: type[nn.Module]
) -> None:
    (whole, (_, figures)), _ = pair.good(in_parts, kind, None, ())
    (left, told), (right, told_right) = pair.good(in_parts, kind, str(tmp_path / "run.pt"), (2, 8))
    assert told == told_right
    # The interrupt of one rank takes a step to reach the other.
    assert told[0] == [("interrupted", 3, 0), ("interrupted", 9, 3), ("steps", 15, 9)]
    assert same(left, right)
    assert same(left, whole)
    assert told[1] == figures


@pytest.mark.parametrize(("count", "batch"), [(64, 16), (45, 7), (33, 16)])
def test_two_ranks_train_a_layer_norm_net_as_one_process_does(pair: Pair, count: int, batch: int) -> None:
    settings = {"epochs": 1, "seed": 5}
    (found, told), _ = pair.good(trained, Norms, count, batch, settings)
    wanted, alone = trained(0, Norms, count, batch, settings)
    close(found, wanted)
    assert told[:2] == alone[:2]
    assert told[2] == pytest.approx(alone[2], abs=1e-5)


@pytest.mark.parametrize("batch", [16, 9])
def test_batch_norm_normalises_each_part_by_itself(pair: Pair, batch: int) -> None:
    steps, lr = 5, 0.05
    settings = {"steps": steps, "lr": lr, "seed": 2, "soft": 0.0, "ema": 0.0, "ratios": ()}
    (found, _), _ = pair.good(trained, Batched, batch * steps, batch, settings)
    close(found, by_hand(batch, steps, lr, Recipe(**settings)))


def by_hand(batch: int, steps: int, lr: float, recipe: Recipe) -> Arrays:
    """The same run in one process: a pass for each half, gradients and running statistics averaged by samples."""
    net = made(Batched)
    teacher = net.extract()
    sampler = Sampler(net.space, recipe)
    weights = [p for p in net.parameters() if p.requires_grad]
    momentum = [torch.zeros_like(p) for p in weights]
    data = list(DataLoader(points(batch * steps), batch))
    net.train()
    for step, (x, y) in enumerate(data):
        half = (len(x) + 1) // 2
        start = {name: value.clone() for name, value in net.weights.named_buffers()}
        total = [torch.zeros_like(p) for p in weights]
        statistics = {name: torch.zeros_like(value) for name, value in start.items() if "running" in name}
        for part in (slice(0, half), slice(half, None)):
            net.zero_grad()
            for name, value in net.weights.named_buffers():
                value.copy_(start[name])
            share = len(x[part]) / len(x)
            nn.functional.cross_entropy(net(x[part]), y[part]).backward()
            with torch.no_grad():
                wanted = teacher(x[part]).log_softmax(1)
            for config in sampler.subnets(step, step / steps):
                scores = net(x[part], config=config).log_softmax(1)
                (wanted.exp() * (wanted - scores)).sum(1).mean().backward()
            total = [added + share * weight.grad for added, weight in zip(total, weights, strict=True)]
            for name, value in net.weights.named_buffers():
                if name in statistics:
                    statistics[name] += share * value
        norm = torch.stack([gradient.norm() for gradient in total]).norm()
        rate = lr * factor(step / steps, recipe.warm_up)
        with torch.no_grad():
            for weight, gradient, moved in zip(weights, total, momentum, strict=True):
                change = gradient * min(1.0, 5.0 / float(norm + 1e-6)) + (5e-4 * weight if weight.ndim > 1 else 0)
                moved.mul_(0.9).add_(change)
                weight.sub_(rate * (change + 0.9 * moved))
            for name, value in net.weights.named_buffers():
                if name in statistics:
                    value.copy_(statistics[name])
    return arrays(net)


@pytest.mark.parametrize("random", [0, 3])
def test_a_step_costs_one_exchange_however_many_subnets_it_trains(pair: Pair, random: int) -> None:
    short, long = (pair.good(counted, steps, random)[0] for steps in (2, 7))
    assert long.pop("all_reduce") - short.pop("all_reduce") == 5
    assert long == short == {"broadcast": 2}  # the start and the end


def test_a_loader_that_deals_out_by_itself_is_not_cut(pair: Pair) -> None:
    (by_sampler, images), _ = pair.good(dealt_out, None)
    (by_word, _), _ = pair.good(dealt_out, True)
    assert images == 48
    assert same(by_sampler, by_word)
    net = made(Norms)
    data = points(48).tensors
    net.fit(
        [tuple(tensor[start : start + 16][order(16)] for tensor in data) for start in (0, 16, 32)],
        epochs=1,
        precision="float32",
        ema=0.0,
    )
    close(by_sampler, arrays(net))


def order(count: int) -> Tensor:
    """How two DistributedSamplers deal: the even ones, then the odd ones."""
    return torch.tensor([*range(0, count, 2), *range(1, count, 2)])


def test_the_clock_of_rank_0_ends_all_ranks_after_the_same_step(pair: Pair) -> None:
    (left, told), (right, told_right) = pair.good(within_a_budget)
    assert told == told_right
    assert told[0] == "budget"
    assert told[1] > 2
    assert same(left, right)


def test_a_loss_that_is_no_number_on_one_rank_stops_all_with_the_same_error(pair: Pair) -> None:
    left, right = pair.good(not_a_number)
    assert left[0] == right[0] == "LOSS_NOT_FINITE"
    assert left[1] == right[1]
    assert "full network" in left[1]
    assert same(left[2], right[2])
    assert all(np.isfinite(value).all() for value in left[2].values())


def test_ranks_that_do_not_fit_together_are_refused(pair: Pair) -> None:
    for call, words in ((endless, "how many batches"), (unlike, "different settings"), (other_networks, "networks")):
        for found in pair.run(call):
            assert isinstance(found, Failed)
            assert found.kind == UsageError.__name__
            assert words in found.message


def test_a_rank_that_fails_takes_the_others_along(pair: Pair) -> None:
    first, second = pair.good(broken, "raises")
    assert first[0] == "RANK_LOST"
    assert "first error of the other ranks" in first[1]
    assert first[2]
    assert "damaged" in second[1]
    (left, _), (right, _) = pair.good(trained, Norms, 32, 8, {"epochs": 1})  # the processes can train again
    assert same(left, right)


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_parts_cover_a_batch_and_small_remainders_are_worked_on_by_all(rank: int) -> None:
    from tailorbird.graph import Inputs
    from tailorbird.supernet.loader import Batch

    class Third(distributed.Together):
        def __init__(self) -> None:
            self.rank, self.size, self._sharded = rank, 3, False

    x = torch.arange(8.0)[:, None]
    part, weight = Third().share(Batch(Inputs((x,)), {"boxes": x, "names": list("abcdefgh")}))
    start, stop = [(0, 3), (3, 6), (6, 8)][rank]
    assert torch.equal(part.inputs.args[0], x[start:stop])
    assert torch.equal(part.target["boxes"], x[start:stop])
    assert weight == stop - start
    whole, weight = Third().share(Batch(Inputs((x[:5],))))
    assert whole.size == 5
    assert weight == pytest.approx(5 / 3)


SCRIPT = """
import torch, sys, os
from torch.utils.data import DataLoader, TensorDataset
from tailorbird.supernet import elastic
torch.manual_seed(int(os.environ["RANK"]))
model = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.LayerNorm(16), torch.nn.ReLU(), torch.nn.Linear(16, 2))
net = elastic(model.eval(), (torch.randn(2, 6),))
x = torch.randn(64, 6, generator=torch.Generator().manual_seed(0))
loader = DataLoader(TensorDataset(x, (x[:, 0] > 0).long()), 16, shuffle=True)
for _ in range(2):
    net.fit(loader, epochs=1)
assert not torch.distributed.is_initialized()
torch.save(torch.nn.Module.state_dict(net), f"{sys.argv[1]}/{os.environ['RANK']}.pt")
"""


@pytest.mark.slow
def test_torchrun_runs_a_script_unchanged(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d"]
    command += ["--rdzv-endpoint", "localhost:0", "--local-addr", "localhost", str(tmp_path / "script.py")]
    done = subprocess.run(
        [*command, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=150,
        env={**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    left, right = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert all(torch.equal(value, right[name]) for name, value in left.items())


def test_a_rank_that_is_killed_is_noticed_at_once(pair: Pair) -> None:  # the last test: the pair is one rank then
    first, second = pair.run(broken, "killed")
    assert second is None
    assert first[0] == "RANK_LOST"
    assert first[2]
    pair.close()
    assert pair.processes[1].exitcode == -signal.SIGKILL
