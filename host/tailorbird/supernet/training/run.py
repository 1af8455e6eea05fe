"""Run: the loop of a training run, and all of its state."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from tailorbird.errors import TailorbirdError, UsageError
from tailorbird.supernet.loader import Batch
from tailorbird.supernet.task import Task
from tailorbird.supernet.training.apart import WEIGHTS
from tailorbird.supernet.training.crew import Crew, can_share
from tailorbird.supernet.training.ema import Average, copied, put, tensors
from tailorbird.supernet.training.feed import Feed
from tailorbird.supernet.training.guard import SCORES, Guard
from tailorbird.supernet.training.judge import Judge
from tailorbird.supernet.training.optimiser import make_optimiser, peak_rate
from tailorbird.supernet.training.precision import Precision
from tailorbird.supernet.training.progress import OnProgress, Progress
from tailorbird.supernet.training.randomness import Stream
from tailorbird.supernet.training.ranks import Ranks, Rows
from tailorbird.supernet.training.recipe import Recipe
from tailorbird.supernet.training.sampler import Sampler
from tailorbird.supernet.training.sandwich import Sandwich, StepLoss
from tailorbird.supernet.training.schedule import factor
from tailorbird.supernet.training.statistics import Statistics
from tailorbird.supernet.training.teacher import FrozenTeacher

if TYPE_CHECKING:
    from tailorbird.supernet.supernet import SuperNet

_CHECKS = 8  # looks at the validation data in a run
_LARGEST_PART = 0.1  # of a budget that is kept for the end of the run
_WINDOW = 20  # steps that the speed is taken over
_PRIME = 1_000_003
#: What ended a run that another rank was asked to stop.
ANOTHER = "another rank"


class Run:
    """A training run that can stop after any step and go on from there.

    Raises: UsageError when there is nothing to train, or the validation gives no score.
    """

    def __init__(
        self,
        net: SuperNet,
        feed: Feed,
        recipe: Recipe,
        task: Task,
        judge: Judge | None,
        ranks: Ranks,
        clock: Callable[[], float] = time.monotonic,
        teacher: nn.Module | None = None,
        own: dict[str, Tensor] | None = None,
    ) -> None:
        """own: the weights of the full network by name, where it is kept as it is and `net` holds those of subnets."""
        self.net, self.feed, self.recipe, self.ranks = net, feed, recipe, ranks
        self._judge, self._clock = judge, clock
        self.precision = Precision(recipe, net)
        if self.precision.channels_last:
            net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.kept = own is not None
        self.start = copied(net) if own is None else own
        self.planned = self._planned()
        self.step = 0
        self.images = 0
        self.elapsed = 0.0
        self._clocked = 0.0  # what decisions go by: the time of rank 0, the same on all ranks
        self._wish: str | None = None  # of this rank, to stop
        self._told: Rows = []
        self.first: StepLoss | None = None
        self.last = StepLoss(None, None)  # of the full network: that of the last step it took part in
        self.scores: dict[str, float] = {}
        self.note = ""
        self._checked = False
        self._check_s = 0.0
        self._amount, self._unit = 0, "images"
        self._recent: deque[tuple[float, int]] = deque([(0.0, 0)], maxlen=_WINDOW)
        self.average = Average(net, recipe.ema) if recipe.ema else None
        self.optimiser = make_optimiser(net, recipe)
        self._peak = peak_rate(net, recipe)
        wise = FrozenTeacher(net, self._as_started()) if recipe.teacher == "frozen" else teacher
        self.crew = Crew(recipe.n_random + 2 if can_share(net, task) else 1)
        self._sandwich = Sandwich(net, task, recipe, self.precision, self.optimiser, wise, ranks, self.crew)
        self._sampler = Sampler(net.space, recipe)
        self.guard: Guard | None = None
        self._settle_s = 0.0  # what the end of the run takes
        if judge is not None:
            with self._drawing(-1):
                began = self._clock()
                with self._as_user():
                    first = judge.first()
                ((score_s,), *_) = ranks.gather([self._clock() - began])
                self.guard = Guard(judge.full, recipe.max_drop, self.start, first)
            if not self.kept:
                self._settle_s = min(SCORES * score_s, _LARGEST_PART * (recipe.budget_s or 0.0))

    # -- the loop

    def train(self, stop: Callable[[], str | None], on_progress: OnProgress | None) -> str:
        """Train until the plan, the budget or `stop` ends it. Returns what did: steps, budget, or a word of `stop`.

        stop: asked after each step.
        """
        began = self._clock() - self.elapsed
        self._clocked = self.elapsed
        self.net.train()
        with self.crew:
            for batch in self._batches(stop):
                share = self.share()
                with self._located():
                    self._one(batch, share)
                self._look_at_clock(began)
                if self.guard and share < int(self.share() * _CHECKS) / _CHECKS < 1:
                    self._check()
                    self._look_at_clock(began)
                if on_progress is not None and self.ranks.rank == 0:
                    on_progress(self.progress())
                self.note, self._checked = "", False
                word = self._ended() or self._stopped(stop)
                if word is not None:
                    return word
        return "steps"

    def _batches(self, stop: Callable[[], str | None]) -> Iterator[Batch]:
        def skipped(batch: Batch) -> bool:
            if self._judge is not None:
                self._judge.saw(self.ranks.share(batch)[0])
            return self.ranks.size > 1 or stop() is None  # several ranks can only stop together, after a step

        if self._ended() is None:
            yield from self.feed.batches(self.recipe.epochs if self.recipe.steps is None else None, skipped)

    @contextmanager
    def _located(self) -> Iterator[None]:
        """Say of errors which batch they are about."""
        try:
            yield
        except Exception as error:
            where = f"in step {self.step + 1}: batch {self.feed.place} of pass {self.feed.epoch + 1}"
            if isinstance(error, TailorbirdError):
                error.why = f"{error.why}, {where}" if error.why else where
            else:
                error.add_note(f"fit: {where}")
            raise

    def _look_at_clock(self, began: float) -> None:
        self.elapsed = self._clock() - began
        if self.ranks.size == 1:
            self._clocked = self.elapsed

    def _stopped(self, stop: Callable[[], str | None]) -> str | None:
        """What ends the run besides its plan. With other ranks it takes a step to tell them, and all stop after it."""
        self._wish = self._wish or stop()
        if self.ranks.size == 1:
            return self._wish
        return (self._wish or ANOTHER) if any(wish for _, _, wish in self._told) else None

    def _one(self, batch: Batch, share: float) -> None:
        recipe = self.recipe
        rate = self._peak * factor(share, recipe.warm_up) * (self.guard.rate if self.guard else 1.0)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        mine, samples = self.ranks.share(batch)
        full = not self.kept and self.step % recipe.full_every == 0
        with self._drawing(self.step, self.ranks.rank):
            losses, self._told = self._sandwich.step(
                mine,
                self._sampler.subnets(self.step, share),
                full=full,
                full_weight=self.guard.weight if self.guard else 1.0,
                samples=samples,
                facts=(samples, self.elapsed, float(self._wish is not None)),
            )
        self.last = replace(losses, full=losses.full if full else self.last.full)
        if self.average is not None:
            self.average.update()
        self.first = self.first or self.last
        self.step += 1
        together = sum(samples for samples, _, _ in self._told)
        amount, self._unit = batch.amount
        self.images += round(together)
        self._amount += round(amount * together / batch.size)
        # Rank 0 told its time before the step.
        self._clocked = self._told[0][1] * self.step / max(1, self.step - 1)
        if self._judge is not None:
            self._judge.saw(mine)

    def _drawing(self, step: int, rank: int = 0) -> AbstractContextManager[None]:
        """Random numbers of a step, or of the check after it: those of a run that stopped before it and went on."""
        seed = (self.recipe.seed * _PRIME + step) * 64 + rank
        return Stream(seed % 2**63, self.net.device).drawn()

    def share(self) -> float:
        """Part of the run that is done: of its steps or of its time, whichever is more."""
        done = [self.step / self.planned] if self.planned else []
        if self.recipe.budget_s:
            done.append(self._clocked / (self.recipe.budget_s - self._settle_s))
        return min(1.0, max(done, default=0.0))

    def _ended(self) -> str | None:
        if self.planned is not None and self.step >= self.planned:
            return "steps"
        if self.recipe.budget_s is not None:
            # What comes after the last step takes time as well.
            step_s = self._clocked / self.step if self.step else 0.0
            if self._clocked + step_s + max(self._check_s, self._settle_s) >= self.recipe.budget_s:
                return "budget"
        return None

    def _planned(self) -> int | None:
        if self.recipe.steps is not None:
            return self.recipe.steps
        if self.recipe.epochs is None:
            return None
        lengths = [length for (length,) in self.ranks.gather([self.feed.length() or 0])]
        if not all(lengths):
            if self.ranks.size > 1:
                raise _endless("the ranks must end after the same step", "`steps` or only a `budget`")
            if self.feed.length() is None and self.recipe.budget_s is None:
                raise _endless("learning rate and sizes of subnets follow the part of the run that is done")
            return None
        return self.recipe.epochs * round(min(lengths))

    # -- looking at validation data

    def _check(self) -> None:
        judge, guard = self._judge, self.guard
        if judge is None or guard is None:
            return
        began, before = self._clock(), guard.backed_off
        was_training = self.net.training
        with self._averaged(), self._drawing(self.step):
            self.scores = {"full": guard.before if self.kept else guard.check(self.share())}
            space = self.net.space
            for name, config in (("smallest", space.smallest()), ("random", space.sample(self.recipe.seed))):
                if not config.is_full:
                    self.scores[name] = judge.subnet(config)
        self.net.train(was_training)
        if guard.backed_off > before:
            self.note = (
                f"the full network is at {self.scores['full']:.1%}, {guard.before:.1%} before: "
                f"learning rate x {guard.rate:g}, its loss x {guard.weight:g}"
            )
        self._checked = True
        # Rank 0 tells its time again with the next step.
        ((check_s,), *_) = self.ranks.gather([self._clock() - began])
        self._check_s = max(self._check_s, check_s)
        self._clocked += check_s

    def _averaged(self) -> AbstractContextManager[None]:
        return nullcontext() if self.average is None or not self.average.updates else self.average.applied()

    def finish(self) -> tuple[float | None, float]:
        """Leave what the recipe wants to keep in the network, within bounds. Returns the full network's score and what
        of the update was kept."""
        with self._drawing(self.step):
            found = self._settle()
        # Buffers that the exchanges of the steps leave out become those of rank 0.
        self.ranks.spread(list(tensors(self.net).values()))
        return found

    def _settle(self) -> tuple[float | None, float]:
        if self.recipe.keep == "best" and self.guard is not None:
            return self._keep_best(self.guard)
        if self.average is not None and self.average.updates:
            self.average.apply()
        self.average = None
        if self.guard is None:
            return None, 1.0
        if self.kept:
            return self.guard.before, 1.0
        return self.guard.settle(self.net, Statistics(self.net, self._further, self.ranks).refresh)

    def _further(self) -> Iterator[Batch]:
        """The batches after those trained on, none where the loader has no more: the same ones after a resume."""
        try:
            yield from self.feed.batches()
        except UsageError:
            return

    def _keep_best(self, guard: Guard) -> tuple[float, float]:
        found = [(guard.score(), 1.0, copied(self.net))]
        if self.average is not None and self.average.updates:
            self.average.apply()
            found.insert(0, (guard.score(), 1.0, self.average.values))
        self.average = None
        best = max((*found, (guard.before, 0.0, self.start)), key=lambda one: one[0])  # of equals the first
        put(tensors(self.net), best[2])
        return best[:2]

    # -- telling

    def progress(self) -> Progress:
        """Where the run stands."""
        share = self.share()
        self._recent.append((self.elapsed, self._amount))
        (t0, n0), (t1, n1) = self._recent[0], self._recent[-1]
        return Progress(
            step=self.step,
            planned=self.planned,
            share=share,
            loss=self.last.main,
            subnet_loss=self.last.subnets,
            learning_rate=self.optimiser.param_groups[0]["lr"],
            seconds=self.elapsed,
            rate=(n1 - n0) / (t1 - t0) if t1 > t0 else 0.0,
            unit=self._unit,
            eta_s=self.elapsed * (1 - share) / share if share else None,
            note=self.note,
            checked=self._checked,
            **self.scores,
        )

    # -- going on later

    def state(self) -> dict[str, Any]:
        """Everything a run needs to go on as if it had not stopped: plain values and tensors."""
        return {
            "recipe": self.recipe.to_json(),
            "kept": self.kept,
            "weights": tensors(self.net),
            "buffers": self._unsaved(),
            "start": self.start,
            "average": None if self.average is None else (self.average.values, self.average.updates),
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.precision.scaler.state_dict(),
            "feed": self.feed.state(),
            "counts": (self.step, self.images, self._amount, self.elapsed, self._check_s),
            "losses": tuple((loss.full, loss.subnets) for loss in (self.first or self.last, self.last)),
            "scores": self.scores,
            "guard": None if self.guard is None else self.guard.state(),
        }

    @contextmanager
    def _as_user(self) -> Iterator[None]:
        """The network holds the full network's weights for a while, where it holds those of subnets."""
        live = tensors(self.net.weights)
        before = copied(self.net.weights)
        put(live, {name: self.start[f"{WEIGHTS}{name}"] for name in live})
        try:
            yield
        finally:
            put(live, before)

    def _as_started(self) -> dict[str, Tensor]:
        """The weights and buffers of the user's module at the start, by their names there."""
        module = self.net.weights
        found = (*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False))
        kept = {name.removeprefix(WEIGHTS): value for name, value in self.start.items()}
        return {name: kept[name] if name in kept else value.clone() for name, value in found}

    def _unsaved(self) -> dict[str, Tensor]:
        """Buffers that the user keeps out of the state dict, but which training may change."""
        saved = tensors(self.net)
        return {name: buffer for name, buffer in self.net.named_buffers() if name not in saved}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a state. The recipe must be the same but for its length.

        Raises: UsageError for another loader, or where only one of the two runs has validation data; the network is
        unchanged then.
        """
        self.feed.check(state["feed"])
        if (self.guard is None) != (state["guard"] is None):
            now, then = ("without", "with") if self.guard is None else ("with", "without")
            raise UsageError(
                f"this run is {now} validation, that of the checkpoint was {then}",
                fix="pass validate as in that run, or start anew with another checkpoint path",
            )
        live = tensors(self.net)
        put(self.start, state["start"])  # the frozen teacher's weights too
        put(live, state["weights"])
        put(self._unsaved(), state["buffers"])
        if self.average is not None and state["average"] is not None:
            self.average.load(*state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        if state["scaler"] and self.precision.scaler.is_enabled():
            self.precision.scaler.load_state_dict(state["scaler"])
        self.feed.load(state["feed"])
        self.step, self.images, self._amount, self.elapsed, self._check_s = state["counts"]
        self._recent = deque([(self.elapsed, self._amount)], maxlen=_WINDOW)
        first, self.last = (StepLoss(*pair) for pair in state["losses"])
        self.first = first if self.step else None
        self.scores = dict(state["scores"])
        if self.guard is not None:
            self.guard.load(state["guard"])


def _endless(why: str, instead: str = "`steps` or a `budget`") -> UsageError:
    return UsageError(
        "the training loader does not say how many batches it has",
        why=why,
        fix=f"pass {instead}, or give the loader a __len__",
    )
