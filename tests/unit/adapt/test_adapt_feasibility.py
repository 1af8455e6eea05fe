from tailorbird_agent.adapt.feasibility import Feasibility


def changes(chances):
    """The requests at which feasibility changed, and what to."""
    seen = Feasibility()
    return [(index, seen.feasible) for index, chance in enumerate(chances) if seen.look(chance)]


def test_it_takes_eight_requests_in_a_row_to_change_either_way():
    assert changes([0.9] * 5 + [0.1] * 20 + [0.9] * 20) == [(12, False), (32, True)]


def test_single_requests_without_a_chance_change_nothing():
    assert changes(([0.1] * 7 + [0.9]) * 5) == []


def test_a_chance_between_the_thresholds_changes_nothing():
    assert changes([0.6] * 50) == []
    assert changes([0.1] * 8 + [0.6] * 50) == [(7, False)]


def test_a_policy_that_cannot_tell_never_changes_it():
    assert changes([None] * 50) == []
