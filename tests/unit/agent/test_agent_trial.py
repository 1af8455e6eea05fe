"""When a bundle on trial has failed: by its on-CPU times, by its wall times, by its errors, and when it has not."""

from __future__ import annotations

import pytest

from tailorbird_agent.deploy.machine import (
    Action,
    Activate,
    Commit,
    Deployment,
    Loaded,
    Phase,
    Serve,
    Stage,
    TrialFailed,
    WorkerDied,
    step,
)
from tailorbird_agent.deploy.trial import Pace, Trial

PROFILE = {"r0": 1000.0, "r1": 4000.0}


def verdicts(times, before=None, rung="r1"):
    """What a trial says after each answer of (wall, CPU) microseconds."""
    pace = Pace(PROFILE)
    trial = Trial(pace, before)
    said = []
    for wall_us, cpu_us in times:
        pace.note(rung, wall_us, cpu_us)
        said.append(trial.answered())
    return said


def test_a_bundle_as_fast_as_its_profile_stays():
    assert set(verdicts([(4100.0, 4000.0)] * 300)) == {""}


def test_a_bundle_four_times_as_slow_on_the_cpu_goes_as_soon_as_there_are_forty_answers():
    said = verdicts([(20_000.0, 18_000.0)] * 60)
    assert set(said[:39]) == {""}
    assert said[39] == "the 95th percentile of its on-CPU times is 5 ms over budget"


def test_waits_of_ten_milliseconds_speak_against_the_device_not_against_the_bundle():
    assert set(verdicts([(14_000.0, 4000.0)] * 100)) == {""}


def test_a_bundle_that_sleeps_goes_for_its_wall_time():
    said = verdicts([(104_000.0, 4000.0)] * 60)
    assert said[-1] == "half of its answers took 67 ms more than its budget"


def test_one_slow_answer_in_thirty_is_not_the_95th_percentile():
    assert set(verdicts(([(4100.0, 4000.0)] * 29 + [(90_000.0, 80_000.0)]) * 6)) == {""}


def test_a_device_on_which_the_bundle_before_was_as_slow_keeps_it():
    slow = [(20_000.0, 18_000.0)] * 60
    assert verdicts(slow)[-1]
    assert set(verdicts(slow, before=(6000.0, 8000.0))) == {""}


def test_a_bundle_much_slower_than_the_one_before_on_a_slow_device_goes():
    assert verdicts([(40_000.0, 36_000.0)] * 60, before=(6000.0, 8000.0))[-1]


def test_the_pace_of_a_worker_is_unknown_before_enough_answers():
    pace = Pace(PROFILE)
    for _ in range(39):
        pace.note("r0", 1000.0, 1000.0)
    assert pace.excess_us() is None
    pace.note("r0", 1000.0, 1000.0)
    assert pace.excess_us() == (-2000.0, -2000.0)


@pytest.mark.parametrize(("errors", "fails"), [(1, False), (5, True)])
def test_more_than_one_failed_request_in_twenty_is_too_many(errors: int, fails: bool):
    pace = Pace(PROFILE)
    trial = Trial(pace, None)
    for _ in range(60):
        pace.note("r0", 1000.0, 1000.0)
        assert trial.answered() == ""
    said = [trial.failed("MODULE_INVALID") for _ in range(errors)]
    assert any(said) is fails
    if fails:
        assert next(each for each in said if each) == "4 of 64 requests failed, the last with MODULE_INVALID"


def test_errors_among_the_first_requests_wait_for_more():
    trial = Trial(Pace(PROFILE), None)
    said = [trial.failed("OUT_OF_MEMORY") for _ in range(20)]
    assert set(said[:19]) == {""}
    assert said[19] == "20 of 20 requests failed, the last with OUT_OF_MEMORY"


@pytest.mark.parametrize("reason", ["INPUT_INVALID", "RUNG_NOT_FOUND", "DEADLINE", "WORKER_BUSY"])
def test_requests_that_are_wrong_or_too_many_say_nothing_about_the_bundle(reason: str):
    trial = Trial(Pace(PROFILE), None)
    assert {trial.failed(reason) for _ in range(100)} == {""}


def on_trial() -> Deployment:
    now = Deployment("m")
    for bundle, commit in (("good", True), ("new", False)):
        for event in (Stage(bundle), Activate(bundle)):
            now, _ = step(now, event)
        for event in (Loaded(now.loading_since), Serve(now.loading_since, commit)):
            now, _ = step(now, event)
    return now


def test_a_failed_trial_returns_to_what_was_committed_and_only_once():
    now = on_trial()
    back, action = step(now, TrialFailed(now.active_since))
    assert (back.phase, back.active, action) == (Phase.ROLLED_BACK, "good", Action.RETURN)
    assert step(back, TrialFailed(now.active_since)) == (back, Action.NOTHING)


def test_what_requests_told_before_a_commit_undoes_nothing_after_it():
    now = on_trial()
    committed, _ = step(now, Commit())
    assert step(committed, TrialFailed(now.active_since)) == (committed, Action.NOTHING)


def test_a_hang_ends_a_trial_at_once_and_a_committed_worker_is_restarted():
    now = on_trial()
    assert step(now, WorkerDied(now.active_since))[1] is Action.RESTART
    assert step(now, WorkerDied(now.active_since, hung=True))[1] is Action.RETURN
    committed, _ = step(now, Commit())
    assert step(committed, WorkerDied(now.active_since, hung=True))[1] is Action.RESTART
