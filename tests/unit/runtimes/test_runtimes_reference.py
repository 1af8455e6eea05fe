"""The reference runtime computes what its programs say, and refuses those that say nonsense."""

from __future__ import annotations

import numpy as np
import pytest

from tailorbird_agent.runtimes import ModuleInvalidError, RuntimeMissingError, available, open_runtime, tensorfile
from tailorbird_agent.runtimes.reference import Step, save

X = np.random.default_rng(0).standard_normal((2, 3, 2)).astype(np.float32)


def run(path, *inputs, parameters=()):
    module = open_runtime("reference").load(path, parameters)
    try:
        return module.run(inputs)
    finally:
        module.close()


def test_a_network_of_all_operations(tmp_path) -> None:
    random = np.random.default_rng(1)
    weight, bias, mix = (random.standard_normal(shape).astype(np.float32) for shape in ((6, 5), (5,), (5, 4)))
    steps = [
        Step("affine", ("input.0", "weight", "bias"), "a"),
        Step("relu", ("a",), "b"),
        Step("matmul", ("b", "mix"), "c"),
        Step("multiply", ("c", "c"), "d"),
        Step("add", ("d", "input.1"), "output.1"),
        Step("softmax", ("output.1",), "output.0"),
    ]
    save(tmp_path / "net", steps, {"weight": weight, "bias": bias, "mix": mix})
    other = np.float32([[1, 2, 3, 4]])
    probabilities, logits = run(tmp_path / "net", X, other)
    hidden = np.maximum(X.reshape(2, 6) @ weight + bias, 0) @ mix
    np.testing.assert_allclose(logits, hidden**2 + other, rtol=1e-5)
    np.testing.assert_allclose(probabilities.sum(axis=1), [1, 1], rtol=1e-6)
    np.testing.assert_array_equal(probabilities.argmax(axis=1), logits.argmax(axis=1))


def test_parameters_may_lie_in_files_beside_the_module(tmp_path) -> None:
    tensorfile.write(tmp_path / "parameters", {"two": np.float32([2])})
    steps = [{"op": "multiply", "in": ["input.0", "two"], "out": "output.0"}]
    import json

    metadata = {"format": "tailorbird.reference/1", "program": json.dumps(steps)}
    tensorfile.write(tmp_path / "module", {}, metadata)
    np.testing.assert_array_equal(run(tmp_path / "module", X, parameters=[tmp_path / "parameters"])[0], 2 * X)
    with pytest.raises(ModuleInvalidError, match="reads two, which nothing defines"):
        run(tmp_path / "module", X)


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ([Step("conv", ("input.0",), "output.0")], "unknown operation 'conv'"),
        ([Step("add", ("input.0", "absent"), "output.0")], "reads absent, which nothing defines"),
        ([Step("relu", ("input.0",), "a")], "no step defines output.0"),
    ],
)
def test_a_program_that_cannot_run_is_refused_when_it_is_written(tmp_path, steps, words) -> None:
    with pytest.raises(ModuleInvalidError, match=words):
        save(tmp_path / "net", steps, {})


@pytest.mark.parametrize(
    "metadata",
    [
        {"format": "tailorbird.reference/2", "program": "[]"},
        {"format": "tailorbird.reference/1"},
        {"format": "tailorbird.reference/1", "program": "{"},
        {"format": "tailorbird.reference/1", "program": "[1]"},
        {"format": "tailorbird.reference/1", "program": '[{"op": "relu"}]'},
    ],
)
def test_a_file_of_another_format_is_refused_when_it_is_read(tmp_path, metadata) -> None:
    tensorfile.write(tmp_path / "file", {}, metadata)
    with pytest.raises(ModuleInvalidError, match="file"):
        run(tmp_path / "file", X)


def test_an_unknown_runtime_is_answered_with_those_there_are() -> None:
    with pytest.raises(RuntimeMissingError, match=r"no runtime 'onnx'; it has: .*reference"):
        open_runtime("onnx")
    assert dict(available())["reference"] == "1"
