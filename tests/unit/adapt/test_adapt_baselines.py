import pytest
from adapt_scenes import DEADLINE_US, LADDER, serve

from tailorbird_agent.adapt import POLICY_NAMES, Cause, make_policy


@pytest.mark.parametrize(("name", "rung"), [("static-small", 0), ("static-large", 4), ("static:r2", 2)])
def test_a_static_policy_stays_on_its_rung_whatever_happens(name, rung):
    rungs, switches = serve(make_policy(name, LADDER), 50, speed=4.0, wait_us=9000.0)
    assert set(rungs) == {rung}
    assert switches == []


def test_a_static_policy_yields_to_a_cap_and_comes_back():
    policy = make_policy("static-large", LADDER)
    down = policy.choose(DEADLINE_US, 2, 0.0, Cause.THERMAL)
    up = policy.choose(DEADLINE_US, 4, 1.0)
    assert (down.rung, down.switch.cause) == (2, Cause.THERMAL)
    assert (up.rung, up.switch.cause) == (4, Cause.THERMAL)


def test_threshold_steps_down_above_its_high_mark_and_up_below_its_low_mark():
    policy = make_policy("threshold", LADDER)
    rungs, switches = serve(policy, 4, speed=3.0)
    assert rungs[:3] == [4, 3, 3]
    assert switches[0].explain() == "r4->r3 deadline 9.50 ms; would return to r4 when latency < 4.75 ms"
    rungs, _ = serve(policy, 20)
    assert rungs[-1] == 4


def test_alert_takes_waits_for_slowness():
    policy = make_policy("alert", LADDER)
    serve(policy, 20)
    _, switches = serve(policy, 20, wait_us=8000.0)
    assert switches[0].cause is Cause.SPEED
    assert switches[0].to_rung < switches[0].from_rung
    assert switches[0].returns.quantity == "speed"


def test_alert_with_hysteresis_switches_less():
    def moves(**settings):
        policy = make_policy("alert", LADDER, **settings)
        return sum(len(serve(policy, 3, wait_us=7000.0 * (burst % 2))[1]) for burst in range(60))

    assert moves(hysteresis=0.005, dwell=8) < moves()


def test_alert_as_tuned_against_flapping_flaps_less_than_as_published():
    def moves(name):
        policy = make_policy(name, LADDER)
        return sum(len(serve(policy, 3, wait_us=7000.0 * (burst % 2))[1]) for burst in range(60))

    assert moves("alert-hysteresis") < moves("alert")


@pytest.mark.parametrize(("queued_us", "rung"), [(0.0, 4), (5400.0, 4), (5600.0, 3), (8000.0, 1), (9400.0, 0)])
def test_slackfit_spends_the_slack_on_the_largest_rung_that_fits_by_its_profile(queued_us, rung):
    assert make_policy("slackfit", LADDER).choose(DEADLINE_US, 4, 0.0, queued_us=queued_us).rung == rung


def test_slackfit_trusts_its_profile_and_yields_only_to_a_cap():
    policy = make_policy("slackfit", LADDER)
    rungs, switches = serve(policy, 50, speed=4.0, wait_us=9000.0)
    assert (set(rungs), switches) == ({4}, [])
    down = policy.choose(DEADLINE_US, 2, 9.0, Cause.THERMAL)
    assert (down.rung, down.switch.cause) == (2, Cause.THERMAL)


def test_slackfit_tells_the_slack_that_would_take_it_back():
    policy = make_policy("slackfit", LADDER)
    switch = policy.choose(3000.0, 4, 0.0).switch
    assert switch.explain() == "r4->r3 deadline 3.00 ms; would return to r4 when deadline > 4.00 ms"


@pytest.mark.parametrize("name", POLICY_NAMES)
def test_every_listed_policy_can_be_made_and_knows_its_name(name):
    policy = make_policy(name, LADDER)
    assert policy.name == name
    assert policy.ladder == LADDER


def test_an_unknown_policy_is_refused_with_the_names_that_exist():
    with pytest.raises(ValueError, match=r"unknown policy 'fastest'; there are: two-channel, .*static:r0"):
        make_policy("fastest", LADDER)


def test_an_unknown_setting_is_refused_with_the_settings_that_exist():
    with pytest.raises(ValueError, match=r"no setting dwel; there are: .*dwell"):
        make_policy("two-channel", LADDER, dwel=3)
    with pytest.raises(ValueError, match="there are: none"):
        make_policy("static-small", LADDER, dwell=3)
