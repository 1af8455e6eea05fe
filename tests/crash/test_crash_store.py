"""Die after operation k, for every k, in every way a disk may have kept what was not synced. Then look."""

from __future__ import annotations

from pathlib import Path

import pytest
from store_life import Died, DyingFilesystem, Promised, UnsyncedFilesystem, check, life, operations

from tailorbird_agent.deploy import machine
from tailorbird_agent.ledger import Ledger


@pytest.mark.parametrize("cut", ["process", "power, names kept", "power, names lost"])
def test_whatever_operation_it_dies_after_nothing_is_corrupt_or_dangling(folder: Path, cut: str) -> None:
    total = operations(folder / "whole")
    assert total > 80
    final = check(folder / "whole")
    for k in range(total):
        root = folder / str(k)
        files, promised = DyingFilesystem(at=k), Promised()
        with pytest.raises(Died):
            life(root, files, promised)
        if cut != "process":
            files.power_cut(names_survive=cut.endswith("kept"))
        before = check(root)
        assert before.generation >= promised.generation
        token = Ledger(root).next_fencing_token()
        assert token > promised.token
        life(root, UnsyncedFilesystem(), promised)
        after = check(root)
        assert after.active == final.active
        assert after.phase is machine.Phase.COMMITTED
        assert after.generation > before.generation or before.active == final.active
        assert Ledger(root).next_fencing_token() > token
