import pytest
from adapt_scenes import LADDER, contended_trace
from reference_policies import ReferenceAlert, ReferenceThreshold, ReferenceTwoChannel

from tailorbird_agent.adapt import make_policy
from tailorbird_agent.adapt.simulate import replay


@pytest.mark.parametrize("deadline_us", [600.0, 2500.0, 4500.0, 7000.0, 12000.0])
@pytest.mark.parametrize(
    ("name", "reference_type"),
    [("two-channel", ReferenceTwoChannel), ("alert", ReferenceAlert), ("threshold", ReferenceThreshold)],
)
def test_a_policy_decides_exactly_as_its_formulas(name, reference_type, deadline_us):
    trace = contended_trace(5)
    reference, expected = reference_type(trace.ladder), []
    for wall_us, cpu_us in zip(trace.wall_us, trace.cpu_us, strict=True):
        rung = reference.choose(deadline_us / 1e3)
        reference.observe(rung, wall_us[rung] / 1e3, cpu_us[rung] / 1e3, deadline_us / 1e3)
        expected.append(rung)
    run = replay(make_policy(name, trace.ladder), trace, deadline_us)
    assert list(run.rungs) == expected
    assert len(run.switches) == sum(a != b for a, b in zip([len(LADDER) - 1, *expected], expected, strict=False))
