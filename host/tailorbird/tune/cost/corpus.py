"""What a cost model learns from: for each kernel on each class of boards, schedules with what they took.

A program is a kernel's schedules for a number of threads; their features hold nothing of the CPU, so classes of boards
that measured the same ones share them.

On disk it is one .npz file: features in half precision (they are logarithms up to about 30), times as
float32, NaN where a schedule failed.
"""

from __future__ import annotations

import dataclasses
import io
import json
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tailorbird.errors import MissingFileError
from tailorbird.tune.cost.errors import CostModelError
from tailorbird.tune.cost.features import WIDTH, Floats
from tailorbird.types.schedule import DeviceClass

_SCHEMA = "tailorbird.cost-corpus/1"


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """One kernel on one class of boards.

    features: (stores, 164) of each schedule; times_us: (schedules,), NaN for one that failed; network: where the kernel
    is from, "" when nobody said.
    """

    workload: str
    name: str
    network: str
    boards: DeviceClass
    features: tuple[Floats, ...]
    times_us: npt.NDArray[np.float64]

    @property
    def labels(self) -> Floats:
        """Share of the fastest schedule's speed: 1 for it, 0 for one that failed. All 0 when none ran."""
        return labels_of(self.times_us)

    def only(self, chosen: Sequence[int]) -> Task:
        """Some of the schedules."""
        kept = tuple(self.features[index] for index in chosen)
        return dataclasses.replace(self, features=kept, times_us=self.times_us[list(chosen)])


def labels_of(times_us: npt.NDArray[np.float64]) -> Floats:
    """(n,) times to shares of the fastest's speed. What is no positive number counts as a failure."""
    good = np.isfinite(times_us) & (times_us > 0)
    if not good.any():
        return np.zeros(len(times_us), np.float32)
    shares = np.zeros(len(times_us), np.float64)
    shares[good] = times_us[good].min() / times_us[good]
    return shares.astype(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Corpus:
    """Tasks, and the compiler whose features they have."""

    tasks: tuple[Task, ...]
    compiler: str

    def where(self, accept: Callable[[Task], bool]) -> Corpus:
        """The tasks that are accepted."""
        return dataclasses.replace(self, tasks=tuple(task for task in self.tasks if accept(task)))

    @property
    def records(self) -> int:
        """Schedules over all tasks, failures included."""
        return sum(len(task.times_us) for task in self.tasks)

    def require_useful(self) -> Corpus:
        """Itself. Raises CostModelError when no task has two schedules of different speed to learn an order from."""
        if not any(len(set(task.labels.tolist())) > 1 for task in self.tasks):
            raise CostModelError(
                "there is nothing to train a cost model on",
                why=f"none of {len(self.tasks)} kernels has two schedules of different speed",
                fix="tune some kernels first (`tailorbird tune --history` lists them), or use mode scratch",
            )
        return self


def write_corpus(corpus: Corpus, path: Path) -> None:
    """Write the file. Features that tasks share are stored once."""
    programs: dict[tuple[int, ...], Task] = {}
    for task in corpus.tasks:
        programs.setdefault(_program(task), task)
    keys = list(programs)
    features = [each for task in programs.values() for each in task.features]
    boards = list({task.boards.name: task.boards for task in corpus.tasks}.values())
    names = [each.name for each in boards]
    head = {
        "schema": _SCHEMA,
        "compiler": corpus.compiler,
        "boards": [dataclasses.asdict(each) for each in boards],
        "programs": [
            {"workload": of.workload, "name": of.name, "network": of.network, "schedules": len(of.features)}
            for of in programs.values()
        ],
        "tasks": [[keys.index(_program(task)), names.index(task.boards.name)] for task in corpus.tasks],
    }
    np.savez_compressed(
        path,
        head=np.frombuffer(json.dumps(head).encode(), np.uint8),
        stores=np.asarray([len(each) for each in features], np.int32),
        features=np.concatenate(features or [np.zeros((0, WIDTH), np.float32)]).astype(np.float16),
        times_us=np.concatenate([task.times_us for task in corpus.tasks] or [np.zeros(0)]).astype(np.float32),
    )


def _program(task: Task) -> tuple[int, ...]:
    return tuple(id(each) for each in task.features)


def read_corpus(path: Path) -> Corpus:
    """Read what `write_corpus` wrote. Raises MissingFileError; CostModelError for a file that is damaged."""
    if not path.is_file():
        raise MissingFileError(f"{path} does not exist", fix="collect records first")
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in ("head", "stores", "features", "times_us")}
        return _corpus(json.loads(arrays["head"].tobytes()), arrays)
    except (KeyError, ValueError, TypeError, IndexError, EOFError, zipfile.BadZipFile, AssertionError) as error:
        raise CostModelError(
            f"{path} holds no records for a cost model", why=f"{type(error).__name__}: {error}", fix="collect them anew"
        ) from error


def _corpus(head: dict[str, Any], arrays: dict[str, npt.NDArray[Any]]) -> Corpus:
    if head["schema"] != _SCHEMA:
        raise ValueError(f"its schema is {head['schema']!r}, not {_SCHEMA!r}")
    boards = [_boards(fields) for fields in head["boards"]]
    rows = np.split(arrays["features"].astype(np.float32), np.cumsum(arrays["stores"])[:-1])
    if arrays["features"].shape != (int(arrays["stores"].sum()), WIDTH):
        raise ValueError(f"its features have the shape {arrays['features'].shape}")
    counts = [int(program["schedules"]) for program in head["programs"]]
    ends = np.cumsum(counts)
    tasks, start = list[Task](), 0
    for program, place in head["tasks"]:
        facts, count = head["programs"][program], counts[program]
        times = arrays["times_us"][start : start + count].astype(np.float64)
        start += count
        features = tuple(rows[ends[program] - count : ends[program]])
        if len(features) != count or len(times) != count:
            raise ValueError("it ends too early")
        tasks.append(Task(facts["workload"], facts["name"], facts["network"], boards[place], features, times))
    return Corpus(tuple(tasks), head["compiler"])


def _boards(fields: dict[str, Any]) -> DeviceClass:
    plain = {name: value for name, value in fields.items() if name not in {"isa_features", "caches"}}
    l1, l2, l3 = fields["caches"]
    return DeviceClass(**plain, isa_features=tuple(fields["isa_features"]), caches=(l1, l2, l3))


def merged(parts: Iterable[Corpus]) -> Corpus:
    """Several corpora of one compiler as one. Raises CostModelError when they are of several."""
    found = list(parts)
    compilers = sorted({part.compiler for part in found})
    if len(compilers) != 1:
        raise CostModelError(
            "these records cannot be learnt from together",
            why=f"their features are of {', '.join(compilers) or 'no compiler'}",
            fix="read them from a store with one release of apache-tvm",
        )
    return Corpus(tuple(task for part in found for task in part.tasks), compilers[0])
