from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tailorbird_agent.deploy.machine import (
    Action,
    Activate,
    ChoosePolicy,
    Commit,
    Deployment,
    Event,
    Loaded,
    LoadFailed,
    Phase,
    Restarted,
    RollBack,
    Serve,
    Stage,
    TrialExpired,
    WorkerDied,
    step,
)
from tailorbird_agent.errors import BundleError

NEW = Deployment("m")


def run(now: Deployment, *events: Event) -> tuple[Deployment, Action]:
    action = Action.NOTHING
    for event in events:
        now, action = step(now, event)
    return now, action


def deployed(bundle: str = "a", *, commit: bool = True, after: Deployment = NEW) -> Deployment:
    loading, action = run(after, Stage(bundle), Activate(bundle))
    assert action is Action.LOAD
    since = loading.loading_since
    return run(loading, Loaded(since), Serve(since, commit=commit))[0]


def test_a_bundle_goes_through_every_phase_to_committed() -> None:
    staged, _ = run(NEW, Stage("a"))
    loading, load = run(staged, Activate("a"))
    loaded, serve = run(loading, Loaded(loading.loading_since))
    trial, _ = run(loaded, Serve(loading.loading_since))
    committed, _ = run(trial, Commit())
    phases = [each.phase for each in (NEW, staged, loaded, trial, committed)]
    assert phases == [Phase.ABSENT, Phase.STAGED, Phase.LOADED, Phase.TRIAL, Phase.COMMITTED]
    assert (load, serve) == (Action.LOAD, Action.SERVE)
    assert committed.active == committed.committed == "a"
    assert NEW.generation < staged.generation < loading.generation < trial.generation < committed.generation


def test_a_trial_does_not_survive_a_restart() -> None:
    trial = deployed("b", commit=False, after=deployed("a"))
    back, action = run(trial, Restarted())
    assert (back.phase, back.active, action) == (Phase.ROLLED_BACK, "a", Action.RETURN)


def test_a_first_trial_that_fails_leaves_nothing_serving() -> None:
    trial = deployed("a", commit=False)
    back, action = run(trial, TrialExpired(trial.active_since))
    assert (back.phase, back.active, action) == (Phase.ROLLED_BACK, "", Action.STOP)


def test_a_trial_outlives_one_death_of_its_worker_and_not_two() -> None:
    trial = deployed("b", commit=False, after=deployed("a"))
    once, first = run(trial, WorkerDied(trial.active_since))
    twice, second = run(once, WorkerDied(trial.active_since))
    assert (once.phase, first) == (Phase.TRIAL, Action.RESTART)
    assert (twice.phase, twice.active, second) == (Phase.ROLLED_BACK, "a", Action.RETURN)


def test_a_committed_worker_is_restarted_however_often_it_dies() -> None:
    now = deployed("a")
    for _ in range(10):
        now, action = run(now, WorkerDied(now.active_since))
        assert (now.phase, action) == (Phase.COMMITTED, Action.RESTART)


def test_a_failed_load_changes_nothing_that_serves() -> None:
    loading, _ = run(deployed("a"), Stage("b"), Activate("b"))
    failed, action = run(loading, LoadFailed(loading.loading_since))
    assert (failed.active, failed.phase, failed.staged, action) == ("a", Phase.ROLLED_BACK, "b", Action.NOTHING)


def test_a_load_superseded_by_another_is_ignored_when_it_ends() -> None:
    first, _ = run(deployed("a"), Stage("b"), Activate("b"))
    second, _ = run(first, Stage("c"), Activate("c"))
    after, action = run(second, Loaded(first.loading_since))
    assert (after, action) == (second, Action.NOTHING)
    assert run(second, LoadFailed(first.loading_since))[0] == second


def test_a_trial_never_becomes_what_rollback_returns_to() -> None:
    trial = deployed("b", commit=False, after=deployed("a"))
    newer = deployed("c", commit=False, after=trial)
    assert newer.previous == "a"
    assert run(newer, RollBack())[0].active == "a"


def test_nothing_returns_to_what_was_rolled_back() -> None:
    back, action = run(deployed("b", after=deployed("a")), RollBack())
    assert (back.active, back.previous, action) == ("a", "", Action.RETURN)
    with pytest.raises(BundleError) as caught:
        run(back, RollBack())
    assert caught.value.reason == "NO_PREVIOUS"


def test_activating_what_serves_changes_nothing() -> None:
    now = deployed("a")
    assert run(now, Activate("a")) == (now, Action.NOTHING)
    assert run(now, Stage("a")) == (now, Action.NOTHING)


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (Activate("b"), "NOT_STAGED"),
        (Activate(""), "NOT_STAGED"),
        (RollBack(), "NO_PREVIOUS"),
        (Stage("b", expected=99), "GENERATION_CONFLICT"),
        (Activate("a", expected=0), "GENERATION_CONFLICT"),
        (Commit(expected=99), "GENERATION_CONFLICT"),
        (RollBack(expected=99), "GENERATION_CONFLICT"),
    ],
)
def test_what_does_not_fit_the_state_is_refused(event: Event, reason: str) -> None:
    with pytest.raises(BundleError) as caught:
        step(deployed("a"), event)
    assert caught.value.reason == reason


def test_committing_without_a_trial_is_refused() -> None:
    with pytest.raises(BundleError) as caught:
        run(NEW, Stage("a"), Commit())
    assert caught.value.reason == "NO_TRIAL"


BUNDLES = st.sampled_from("abc")
RECENT = st.integers(0, 3)  # how many generations ago the work began


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[Deployment, Event, Deployment, Action]]:
    """A random life of a model: what was, what happened, what came of it. Refused events are left out."""
    now, history = NEW, []
    for _ in range(draw(st.integers(1, 20))):
        since = draw(st.sampled_from([now.loading_since, now.active_since, now.generation - draw(RECENT)]))
        event = draw(
            st.one_of(
                st.builds(Stage, BUNDLES),
                st.builds(Activate, BUNDLES),
                st.just(Loaded(since)),
                st.builds(Serve, st.just(since), st.booleans()),
                st.just(LoadFailed(since)),
                st.builds(Commit, st.sampled_from([None, now.generation, now.generation - 1])),
                st.just(RollBack()),
                st.just(WorkerDied(since)),
                st.just(TrialExpired(since)),
                st.just(ChoosePolicy("static-small", 5.0)),
                st.just(Restarted()),
            )
        )
        try:
            then, action = step(now, event)
        except BundleError:
            continue
        history.append((now, event, then, action))
        now = then
    return history


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])  # of a busy machine
@given(histories())
def test_in_any_history_generations_grow_and_only_committed_bundles_come_back(
    history: list[tuple[Deployment, Event, Deployment, Action]],
) -> None:
    committed, staged = {""}, {""}
    for now, event, then, action in history:
        assert then.generation - now.generation in {0, 1}
        if isinstance(event, Stage):
            staged.add(event.bundle)
        if then.phase is Phase.COMMITTED:
            committed.add(then.active)
        assert then.previous in committed
        assert then.committed in committed
        assert {then.active, then.loading} <= staged
        assert (then.phase is Phase.TRIAL) <= bool(then.active)
        if then.active != now.active:
            assert then.generation == then.active_since
            serves = isinstance(event, Serve)
            assert serves or then.active == now.previous
        if action in {Action.RETURN, Action.RESTART}:
            assert then.active
        if action is Action.LOAD:
            assert then.loading == now.staged


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])  # of a busy machine
@given(histories())
def test_in_any_history_a_restart_comes_back_to_what_was_committed(
    history: list[tuple[Deployment, Event, Deployment, Action]],
) -> None:
    for _, _, then, _ in history:
        after, action = step(then, Restarted())
        assert after.active == then.committed
        assert after.phase not in {Phase.TRIAL, Phase.LOADED}
        assert after.loading == ""
        assert (action is Action.NOTHING) == (not after.active) or action is Action.STOP
