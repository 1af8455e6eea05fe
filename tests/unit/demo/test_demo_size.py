"""Which network the demo takes on this machine."""

import json

from tailorbird.demo.size import USUAL, WIDE, fitting_source, source_for
from tailorbird.flow.workspace import Workspace


def test_a_fast_processor_gets_more_to_do():
    assert str(source_for(2e-3)) == USUAL
    assert str(source_for(5e-4)) == WIDE
    usual, wide = (sum(p.numel() for p in source_for(s).load()().parameters()) for s in (2e-3, 5e-4))
    assert wide > 2 * usual


def test_a_machine_is_timed_once(tmp_path):
    with Workspace.open({"home": tmp_path}) as workspace:
        chosen = fitting_source(workspace)
        (found,) = tmp_path.rglob("size.json")
        before = found.stat().st_mtime_ns
        assert chosen == source_for(json.loads(found.read_text())["usual_s"])
        assert fitting_source(workspace) == chosen
        assert found.stat().st_mtime_ns == before
