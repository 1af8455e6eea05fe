"""The document of one run (`tailorbird.run/1`): everything the report shows, so that it looks up nothing elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tailorbird.document import DocumentError, dump_document, parse_document
from tailorbird.errors import MissingFileError, UsageError
from tailorbird.types import DeviceCard, Sensors

RUN_SCHEMA = "tailorbird.run/1"


@dataclass(frozen=True, slots=True)
class Figure:
    """One result of a stage: its name, the words a person reads ("23.4 M"), the bare number where it is one."""

    name: str
    words: str
    value: float | None = None


@dataclass(frozen=True, slots=True)
class StageTime:
    """One stage of the pipeline: how long it took, whether the cache answered, what it found."""

    name: str
    title: str
    seconds: float
    cached: bool
    figures: tuple[Figure, ...] = ()


@dataclass(frozen=True, slots=True)
class FrontPoint:
    """A subnet the search evaluated: predicted microseconds, accuracy (fraction), whether nothing dominates it."""

    predicted_us: float
    accuracy: float
    on_front: bool


@dataclass(frozen=True, slots=True)
class BuildPoint:
    """One rung built for one runtime: measured median on-CPU microseconds and the largest difference from torch."""

    runtime: str
    measured_us: float
    max_abs_error: float
    verdict: str


@dataclass(frozen=True, slots=True)
class RungRow:
    """A rung of the ladder. accuracy: validation fraction; test_accuracy: on the untouched split."""

    name: str
    accuracy: float
    test_accuracy: float | None
    predicted_us: float
    measured_us: float
    macs: int
    params: int
    runtime: str
    builds: tuple[BuildPoint, ...]


@dataclass(frozen=True, slots=True)
class PredictionPoint:
    """A whole subnet predicted, then measured on the device. held_out: it took no part in the calibration."""

    label: str
    predicted_us: float
    measured_us: float
    held_out: bool


@dataclass(frozen=True, slots=True)
class Request:
    """One answered request: seconds since serving began, the rung that answered, microseconds seen by the client."""

    lane: str
    at_s: float
    rung: str
    latency_us: float
    missed: bool
    correct: bool


@dataclass(frozen=True, slots=True)
class Switch:
    """A change of rung and its reason, in the agent's own words."""

    at_s: float
    from_rung: str
    to_rung: str
    cause: str
    message: str


@dataclass(frozen=True, slots=True)
class Burst:
    """The CPU burner was on, seconds since serving began, with this many processes."""

    start_s: float
    end_s: float
    processes: int


@dataclass(frozen=True, slots=True)
class LaneSummary:
    """A lane over the whole serving phase. Shares are fractions; effective_* count late answers as worthless.

    effective_accuracy: share of requests answered correctly and on time, with its 95 % half width;
    weighted_accuracy: the ladder's validation accuracy of the answering rung, counted when on time.
    """

    lane: str
    requests: int
    misses: int
    miss_share: float
    accuracy: float
    effective_accuracy: float
    effective_half_width: float
    weighted_accuracy: float
    p50_us: float
    p90_us: float | None
    switches: int


@dataclass(frozen=True, slots=True)
class Serving:
    """The serving phase: three lanes interleaved slot by slot under one burner."""

    slo_us: float
    rate_hz: float
    seconds: float
    lanes: tuple[LaneSummary, ...]
    requests: tuple[Request, ...]
    switches: tuple[Switch, ...]
    bursts: tuple[Burst, ...]


@dataclass(frozen=True, slots=True)
class Run:
    """A run of the pipeline from model to serving. Parts that did not run are empty or None."""

    title: str
    model: str
    created_at: str  # ISO 8601, UTC
    tailorbird_version: str
    card: DeviceCard | None
    sensors: Sensors | None
    stages: tuple[StageTime, ...]
    front: tuple[FrontPoint, ...]
    rungs: tuple[RungRow, ...]
    predictions: tuple[PredictionPoint, ...]
    prediction_error: float | None  # median absolute relative error on held-out subnets, fraction
    serving: Serving | None
    schema: str = RUN_SCHEMA


def write_run(run: Run, path: Path) -> None:
    """Write the document as indented JSON."""
    path.write_text(dump_document(run, indent=1) + "\n", encoding="utf-8")


def read_run(path: Path) -> Run:
    """Read a run from its JSON file or from the folder that holds `run.json`.

    Raises:
        MissingFileError: there is no such file.
        UsageError: the file is not a `tailorbird.run/1` document.
    """
    source = path / "run.json" if path.is_dir() else path
    if not source.is_file():
        raise MissingFileError(
            f"no run at {path}",
            why=f"{source} does not exist",
            fix="give the run.json (or its folder) that `tailorbird demo` wrote; it prints the path at the end",
        )
    try:
        return parse_document(Run, source.read_text(encoding="utf-8"), schema=RUN_SCHEMA)
    except (DocumentError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{source} is not a run",
            why=str(error),
            fix=f"the file must be a {RUN_SCHEMA} document; run `tailorbird demo`",
        ) from error
