"""`devices drift` refuses what it cannot compare; with real agents it is part of the search by proxy."""

from __future__ import annotations

import json

from tailorbird.cli.main import main


def test_a_folder_that_is_no_ladder_is_explained(capsys, tmp_path):
    assert main(["devices", "drift", str(tmp_path), "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert "there is no network.json" in error["what"]
    assert "tailorbird supernet" in error["fix"]
