"""Plans and timings cross the process border unchanged."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from tailorbird_agent.worker.plan import (
    CandidatePlan,
    Figure,
    GoldenPlan,
    RungPlan,
    ServePlan,
    TensorSpec,
    Timings,
    jsonable,
)

names = st.text(min_size=1, max_size=12)
paths = names.filter(lambda name: not set(name) & set("/\0") and name not in {".", ".."}).map(lambda n: Path("/") / n)
finite = st.floats(allow_nan=False, allow_infinity=False)
tensors = st.builds(
    TensorSpec, names, st.sampled_from(["FP32", "INT64", "BOOL"]), st.lists(st.integers(0, 9), max_size=4).map(tuple)
)
rungs = st.builds(
    RungPlan,
    names,
    st.just("tvm"),
    paths,
    st.lists(paths, max_size=2).map(tuple),
    st.integers(1, 8),
    finite,
    finite,
    paths,
    finite,
    st.integers(0, 2**40),
)
series = st.lists(finite, max_size=5).map(tuple)
timings = st.builds(
    Timings,
    names,
    series,
    series,
    st.just("noisy"),
    names,
    names,
    st.lists(st.tuples(names, names), max_size=3).map(tuple),
    series,
    st.lists(st.integers(1, 9), max_size=5).map(tuple),
)


def through_json(value: object) -> dict:
    return json.loads(json.dumps(jsonable(value)))


@settings(deadline=None)
@given(
    st.builds(
        ServePlan,
        names,
        st.lists(tensors, max_size=3).map(tuple),
        st.lists(tensors, max_size=3).map(tuple),
        st.lists(rungs, max_size=3).map(tuple),
        paths,
        st.lists(st.tuples(names, paths), max_size=2).map(tuple),
        names,
        st.none() | finite,
    )
)
def test_a_serve_plan_survives_the_trip(plan: ServePlan) -> None:
    assert ServePlan.from_json(through_json(plan)) == plan


answers = st.builds(GoldenPlan, paths, paths, st.lists(tensors, max_size=2).map(tuple), finite, finite)


@settings(deadline=None)
@given(
    st.builds(
        CandidatePlan,
        st.just("tvm-kernel"),
        paths,
        st.lists(tensors, max_size=3).map(tuple),
        names,
        golden=st.none() | answers,
    )
)
def test_a_candidate_survives_the_trip(candidate: CandidatePlan) -> None:
    assert CandidatePlan.from_json(through_json(candidate)) == candidate


@settings(deadline=None)
@given(st.builds(Figure, names, finite, names, timings))
def test_a_figure_and_its_timings_survive_the_trip(figure: Figure) -> None:
    assert Figure.from_json(through_json(figure)) == figure


def test_relative_paths_become_absolute_since_a_worker_runs_elsewhere() -> None:
    sent = through_json(CandidatePlan("tvm-model", Path("module.so"), ()))
    assert sent["module"] == str(Path.cwd() / "module.so")


def test_the_size_of_a_tensor_counts_its_datatype() -> None:
    assert TensorSpec("x", "INT64", (2, 3)).size_bytes == 48
    assert TensorSpec("scalar", "FP16", ()).size_bytes == 2
