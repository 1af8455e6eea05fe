"""MLPerf LoadGen as an external client of a served model (mlcommons-loadgen, an optional extra).

LoadGen decides when each query is sent, keeps the time itself, and says whether the run is valid; we only carry its
queries to the device's inference endpoint. It waits for every query to be completed, so a lost one would show.
"""

from __future__ import annotations

import array
import importlib
import importlib.metadata
import json
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tailorbird.device import Device
from tailorbird.errors import DeviceError, DeviceUnreachableError, EnvironmentFaultError
from tailorbird.flow.example import example

Scenario = Literal["SingleStream", "Server"]

#: Early stopping at 99 % confidence needs this many queries for a 90th and for a 99th percentile (MLPerf Inference
#: rules, appendix on early stopping).
P90_QUERIES = 64
P99_QUERIES = 662
#: Queries of the server scenario that may wait at once; further ones wait in this process, and LoadGen counts that.
_IN_FLIGHT = 16
_INPUTS = 64
_WARM_UPS = 8


@dataclass(frozen=True, slots=True)
class Load:
    """What to ask for. min_queries and min_seconds must both be reached; rate_hz and slo_us are the server scenario's:
    Poisson arrivals, of which 99 % have to be answered within the deadline.

    request_slo_us: the deadline that a query carries to the policy, microseconds, from the seconds since the first
    query; None: queries carry none, and the deployment's holds. LoadGen judges by slo_us alone.
    """

    scenario: Scenario
    min_queries: int
    min_seconds: float
    rate_hz: float = 20.0
    slo_us: float | None = None
    rung: str = ""
    request_slo_us: Callable[[float], float] | None = None


@dataclass(frozen=True, slots=True)
class LoadResult:
    """LoadGen's verdict and figures; microseconds as its client saw them. A percentile with too few queries is None.

    reasons: why it is not valid; failed: queries that the device refused or lost.
    """

    scenario: str
    valid: bool
    reasons: tuple[str, ...]
    queries: int
    failed: int
    seconds: float
    rate_hz: float
    mean_us: float
    p50_us: float
    p90_us: float | None
    p99_us: float | None
    max_us: float
    late: int | None
    version: str


def require_loadgen() -> Any:
    """The LoadGen module. Raises EnvironmentFaultError when the extra is not installed."""
    try:
        return importlib.import_module("mlperf_loadgen")
    except ImportError as error:
        raise EnvironmentFaultError(
            "MLPerf LoadGen is not installed",
            why=f"it is an optional extra ({error})",
            fix="pip install 'tailorbird[loadgen]'",
            reason="LOADGEN_MISSING",
        ) from error


def run_loadgen(device: Device, model: str, load: Load, folder: Path) -> LoadResult:
    """Let LoadGen drive a served model; its own logs are left in `folder`.

    Raises:
        EnvironmentFaultError: LoadGen is not installed.
        DeviceError: the model is not there, or the device went away during the run.
    """
    loadgen = require_loadgen()
    folder.mkdir(parents=True, exist_ok=True)
    client = _Client(loadgen, device, model, load)
    expected_us = client.warm_up()
    settings = _settings(loadgen, load, expected_us)
    logs = loadgen.LogOutputSettings()
    logs.outdir = str(folder)
    log_settings = loadgen.LogSettings()
    log_settings.log_output = logs
    log_settings.enable_trace = False
    started = time.monotonic()
    client.run(settings, log_settings)
    seconds = time.monotonic() - started
    return _result(load, _read_log(folder / "mlperf_log_detail.txt"), client.failures, seconds)


class _Client:
    """Carries queries to the device and completes each of them, answered or not."""

    def __init__(self, loadgen: Any, device: Device, model: str, load: Load) -> None:
        self._loadgen = loadgen
        self._device = device
        self._model = model
        self._load = load
        specs, _ = device.signature(model)
        self._inputs = [example(specs, seed) for seed in range(_INPUTS)]
        self._stopped = threading.Event()
        self._began_s = time.monotonic()
        self.failures: list[DeviceError] = []

    def warm_up(self) -> float:
        """The quickest of a few answers in microseconds: LoadGen prepares its queries by it. Raises DeviceError."""
        times = []
        for number in range(_WARM_UPS):
            started = time.perf_counter()
            self._ask(number)
            times.append(time.perf_counter() - started)
        return min(times) * 1e6

    def run(self, settings: Any, log_settings: Any) -> None:
        """One test. Raises DeviceUnreachableError when the device went away."""
        done: queue.Queue[None] = queue.Queue()
        self._began_s = time.monotonic()
        with ThreadPoolExecutor(_IN_FLIGHT, thread_name_prefix="loadgen") as pool:

            def issue(samples: Sequence[Any]) -> None:
                for sample in samples:
                    if self._load.scenario == "Server":
                        pool.submit(self._answer, sample.id, sample.index)
                    else:
                        self._answer(sample.id, sample.index)

            def test() -> None:
                system = self._loadgen.ConstructSUT(issue, lambda: None)
                library = self._loadgen.ConstructQSL(_INPUTS, _INPUTS, lambda _: None, lambda _: None)
                self._loadgen.StartTestWithLogSettings(system, library, settings, log_settings)
                self._loadgen.DestroyQSL(library)
                self._loadgen.DestroySUT(system)
                done.put(None)

            # In a thread of its own: an interrupt must not be raised inside LoadGen's call-back.
            threading.Thread(target=test, name="loadgen-test", daemon=True).start()
            try:
                done.get()
            except KeyboardInterrupt:
                self._stopped.set()
                raise
        gone = next((error for error in self.failures if isinstance(error, DeviceUnreachableError)), None)
        if gone is not None:
            raise gone

    def _answer(self, query: int, index: int) -> None:
        """Ask the device and complete the query, whatever happens; after the device is gone, complete at once."""
        if not self._stopped.is_set():
            try:
                self._ask(index)
            except DeviceError as error:
                self.failures.append(error)
                if isinstance(error, DeviceUnreachableError):
                    self._stopped.set()
        empty = array.array("B", b"\0")
        address, _ = empty.buffer_info()
        self._loadgen.QuerySamplesComplete([self._loadgen.QuerySampleResponse(query, address, len(empty))])

    def _ask(self, index: int) -> None:
        load = self._load
        slo_us = None if load.request_slo_us is None else load.request_slo_us(time.monotonic() - self._began_s)
        self._device.infer(self._model, self._inputs[index % _INPUTS], load.rung, slo_us)


def _settings(loadgen: Any, load: Load, expected_us: float) -> Any:
    settings = loadgen.TestSettings()
    settings.mode = loadgen.TestMode.PerformanceOnly
    settings.scenario = getattr(loadgen.TestScenario, load.scenario)
    settings.min_duration_ms = round(load.min_seconds * 1000)
    if load.scenario == "Server":
        assert load.slo_us is not None
        settings.min_query_count = max(load.min_queries, P99_QUERIES)
        settings.server_target_qps = load.rate_hz
        settings.server_target_latency_ns = round(load.slo_us * 1000)
        settings.server_target_latency_percentile = 0.99
    else:
        settings.min_query_count = max(load.min_queries, P90_QUERIES)
        # It prepares as many queries as fit into the time at this latency, and fails when they run out.
        settings.single_stream_expected_latency_ns = max(round(expected_us * 1000 / 4), 1000)
    return settings


def _read_log(path: Path) -> Mapping[str, Any]:
    """LoadGen's detailed log: one JSON object a line after a mark; the last value of each key."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    records = [json.loads(line.removeprefix(":::MLLOG ")) for line in lines if line.startswith(":::MLLOG ")]
    return {record["key"]: record["value"] for record in records}


#: Keys of the log that must be true, and what it means when they are not.
_CONDITIONS = (
    ("result_perf_constraints_met", "more than 1 % of the queries were late"),
    ("result_min_duration_met", "it ended before its minimum time"),
    ("result_min_queries_met", "it ended before its minimum of queries"),
    ("early_stopping_met", "too few queries for the percentile (early stopping)"),
)


def _result(load: Load, log: Mapping[str, Any], failures: Sequence[DeviceError], seconds: float) -> LoadResult:
    reasons = [words for key, words in _CONDITIONS if log.get(key) is False]
    queries = int(log["result_query_count"])
    if failures:
        reasons.append(f"{len(failures)} of {queries} queries failed: {failures[0].what}: {failures[0].why}")
    valid = log["result_validity"] == "VALID" and not failures
    late = log.get("result_overlatency_query_count")
    rate = log.get("result_completed_samples_per_sec", log.get("result_qps_with_loadgen_overhead", 0.0))
    return LoadResult(
        scenario=load.scenario,
        valid=valid,
        reasons=() if valid else tuple(reasons) or (str(log.get("result_invalid_reason") or "LoadGen does not say"),),
        queries=queries,
        failed=len(failures),
        seconds=seconds,
        rate_hz=float(rate),
        mean_us=log["result_mean_latency_ns"] / 1e3,
        p50_us=log["result_50.00_percentile_latency_ns"] / 1e3,
        p90_us=log["result_90.00_percentile_latency_ns"] / 1e3 if queries >= P90_QUERIES else None,
        p99_us=log["result_99.00_percentile_latency_ns"] / 1e3 if queries >= P99_QUERIES else None,
        max_us=log["result_max_latency_ns"] / 1e3,
        late=None if late is None else int(late),
        version=importlib.metadata.version("mlcommons-loadgen"),
    )
