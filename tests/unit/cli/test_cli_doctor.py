"""doctor: versions against pins, imports and the ffi self-test in child processes, a fix for each failure."""

import json

import pytest

from tailorbird.cli.checks import (
    Requirement,
    accepts,
    check_compiler,
    check_ffi,
    check_imports,
    check_versions,
    host_requirements,
)
from tailorbird.cli.main import main


@pytest.mark.parametrize(
    ("versions", "version", "ok"),
    [
        ("==0.1.14.post1", "0.1.14.post1", True),
        ("==0.1.14.post1", "0.1.15.post2", False),
        ("<2.14,>=2.13", "2.13.0+cpu", True),
        ("<2.14,>=2.13", "2.14.0", False),
        (">=0.6.1", "0.6.0", False),
        ("", "1", True),
        ("~=1.4", "1.9", True),
        ("~=1.4", "2.0", False),
        ("!=3", "3", False),
    ],
)
def test_versions_are_compared_as_pip_would(versions, version, ok):
    assert accepts(versions, version) is ok


def test_requirements_are_those_of_the_base_and_the_host_extra():
    lines = [
        "grpcio>=1.76",
        "torch<2.14,>=2.13; extra == 'host'",
        "ruff>=0.12; extra == 'dev'",
        "tailorbird[x]; extra == 'host'",
    ]
    assert [r.name for r in host_requirements(lines)] == ["grpcio", "torch"]
    assert {"torch", "apache-tvm-ffi", "grpcio"} <= {r.name for r in host_requirements()}


def test_a_missing_and_a_wrong_version_come_with_the_line_that_mends_them():
    missing, wrong = check_versions((Requirement("no-such-thing", ">=1"), Requirement("numpy", "<1")))
    assert (missing.ok, missing.found, missing.fix) == (False, "not installed", "pip install 'no-such-thing>=1'")
    assert not wrong.ok
    assert "needs <1" in wrong.found


def test_a_package_that_dies_on_import_is_named_and_the_others_are_still_tried(tmp_path):
    (tmp_path / "dying.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    (tmp_path / "failing.py").write_text("raise ImportError('libmissing.so')")
    names = tuple(Requirement(name, "") for name in ("json", "dying", "failing", "math"))
    checks = {c.name: c for c in check_imports(names, {"PYTHONPATH": str(tmp_path)})}
    assert set(checks) == {"import dying", "import failing"}
    assert "status -11" in checks["import dying"].found
    assert "libmissing.so" in checks["import failing"].found
    assert all(c.fix.startswith("pip install") for c in checks.values())


def test_the_ffi_self_test_passes_with_the_pin_and_reports_a_signal(tmp_path):
    assert check_ffi().ok
    (tmp_path / "tvm.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    bad = check_ffi({"PYTHONPATH": str(tmp_path)})
    assert not bad.ok
    assert "signal 11" in bad.found
    assert bad.fix == "pip install apache-tvm-ffi==0.1.14.post1"


def test_a_machine_without_a_compiler_is_told_what_to_install(monkeypatch, tmp_path):
    assert check_compiler().ok
    monkeypatch.setenv("PATH", str(tmp_path))
    assert check_compiler().fix == "apt-get install gcc libc6-dev"


@pytest.mark.slow
def test_doctor_passes_here_and_fails_with_an_unreachable_device(capsys, tmp_path):
    assert main(["doctor", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["ok"]
    assert {"tvm self-test", "C compiler", "agent local"} <= {c["name"] for c in report["checks"]}
    main(["devices", "add", "board-1", str(tmp_path)])
    capsys.readouterr()
    assert main(["doctor", "--json"]) == 1
    bad = [c for c in json.loads(capsys.readouterr().out)["checks"] if not c["ok"]]
    assert [c["name"] for c in bad] == ["agent board-1"]
    assert bad[0]["fix"]
