"""LiteRT and TVM modules, each in a process of its own as on a device."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from runtime_modules import WEIGHT, build_litert, build_tvm, tvm_runtime_library

from tailorbird_agent.runtimes import ModuleInvalidError, open_runtime, tensorfile

needs_tvm = pytest.mark.skipif(importlib.util.find_spec("tvm") is None, reason="the TVM compiler is not installed")
X = np.random.default_rng(0).standard_normal((1, 16)).astype(np.float32)


def in_process(code: str, *arguments: object) -> dict:
    """Run code that prints one JSON object; `x` is X there, `argv` the arguments, `library` the TVM runtime."""
    prelude = """
        import json, sys
        import numpy as np
        from pathlib import Path
        from tailorbird_agent.runtimes import open_runtime, tensorfile
        from tailorbird_agent.runtimes.arrays import aligned_copy
        argv = [Path(each) for each in sys.argv[2:]]
        library = Path(sys.argv[1])
        x = aligned_copy(np.random.default_rng(0).standard_normal((1, 16)).astype(np.float32))
        def mapped(name):
            return sum(name in line for line in open("/proc/self/maps"))
    """
    command = [sys.executable, "-c", textwrap.dedent(prelude) + textwrap.dedent(code), str(tvm_runtime_library())]
    done = subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@needs_tvm
def test_tvm_runs_a_module_without_suffix_without_torch_and_unmaps_it(tmp_path) -> None:
    build_tvm(tmp_path / "blob", 3.0)
    seen = in_process(
        """
        module = open_runtime("tvm", library).load(argv[0])
        (y,) = module.run([x])
        y = y.tolist()
        before = mapped("blob")
        module.close()
        torch = "torch" in sys.modules and sys.modules["torch"] is None
        print(json.dumps({"y": y, "before": before, "after": mapped("blob"), "torch": torch,
                          "compiler": "tvm" in sys.modules or mapped("tvm_compiler") > 0}))
        """,
        tmp_path / "blob",
    )
    np.testing.assert_allclose(seen["y"], X @ WEIGHT + 3, rtol=1e-5)
    assert seen["before"] > 0
    assert (seen["after"], seen["torch"], seen["compiler"]) == (0, True, False)


@needs_tvm
def test_tvm_takes_parameters_from_a_mapped_file(tmp_path) -> None:
    build_tvm(tmp_path / "blob", parameters=True)
    offset = np.float32([1, 2, 3, 4])
    tensorfile.write(tmp_path / "parameters", {"offset": offset})
    seen = in_process(
        """
        module = open_runtime("tvm", library).load(argv[0], [argv[1]])
        print(json.dumps({"y": module.run([x])[0].tolist()}))
        """,
        tmp_path / "blob",
        tmp_path / "parameters",
    )
    np.testing.assert_allclose(seen["y"], X @ WEIGHT + offset, rtol=1e-5)


@needs_tvm
def test_a_replaced_module_under_the_same_path_is_the_new_one_and_threads_can_change(tmp_path) -> None:
    build_tvm(tmp_path / "blob", 0.0)
    build_tvm(tmp_path / "next", 100.0)
    seen = in_process(
        """
        runtime = open_runtime("tvm", library)
        first = runtime.load(argv[0], threads=1)
        a = first.run([x])[0].tolist()
        first.close()
        argv[1].rename(argv[0])
        second = runtime.load(argv[0], threads=2)
        print(json.dumps({"difference": (second.run([x])[0] - np.array(a)).tolist()}))
        """,
        tmp_path / "blob",
        tmp_path / "next",
    )
    np.testing.assert_allclose(seen["difference"], np.full((1, 4), 100.0), rtol=1e-4)


def test_litert_runs_a_mapped_flatbuffer(tmp_path) -> None:
    build_litert(tmp_path / "blob", 2.5)
    seen = in_process(
        """
        module = open_runtime("litert").load(argv[0])
        (y,) = module.run([x])
        print(json.dumps({"y": y.tolist(), "tvm": "tvm_ffi" in sys.modules}))
        """,
        tmp_path / "blob",
    )
    np.testing.assert_allclose(seen["y"], X + 2.5, rtol=1e-6)
    assert seen["tvm"] is False


@pytest.mark.parametrize("content", [b"", b"text", b"\0\0\0\0TFL3 and then nothing of sense"])
def test_litert_refuses_what_is_no_model(tmp_path, content) -> None:
    (tmp_path / "blob").write_bytes(content)
    with pytest.raises(ModuleInvalidError, match="blob"):
        open_runtime("litert").load(tmp_path / "blob")


def test_litert_refuses_inputs_that_do_not_fit_and_parameter_files(tmp_path) -> None:
    build_litert(tmp_path / "blob")
    module = open_runtime("litert").load(tmp_path / "blob")
    with pytest.raises(ValueError, match="takes 1 inputs, not 2"):
        module.run([X, X])
    with pytest.raises(ValueError, match=r"[Dd]imension"):
        module.run([X[:, :4]])
    module.close()
    with pytest.raises(ModuleInvalidError, match="holds its own parameters"):
        open_runtime("litert").load(tmp_path / "blob", [tmp_path / "blob"])
