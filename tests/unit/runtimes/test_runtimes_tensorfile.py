"""Our tensor files are safetensors files, both ways; nothing else is taken for one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import load_file, save_file

from tailorbird_agent.runtimes import ModuleInvalidError, tensorfile

arrays = st.sampled_from(["<f4", "<f2", "<i8", "<i4", "|i1", "|u1", "|b1"]).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5))
)
files = st.dictionaries(st.text(st.characters(codec="ascii", exclude_categories=["C"]), min_size=1), arrays, max_size=4)


def same(left: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> bool:
    return left.keys() == right.keys() and all(
        left[name].dtype == right[name].dtype
        and left[name].shape == right[name].shape
        and left[name].tobytes() == right[name].tobytes()
        for name in left
    )


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(files.filter(lambda tensors: "__metadata__" not in tensors))
def test_what_we_write_safetensors_reads_and_the_other_way_round(tmp_path, tensors) -> None:
    tensorfile.write(tmp_path / "ours", tensors, {"key": "value"})
    assert same(load_file(tmp_path / "ours"), tensors)
    save_file(tensors, tmp_path / "theirs", {"key": "value"})
    for name in ("ours", "theirs"):
        file = tensorfile.read(tmp_path / name)
        assert same(file.tensors, tensors)
        assert file.metadata == {"key": "value"}


def test_tensors_are_writable_copies_that_never_reach_the_file(tmp_path) -> None:
    tensorfile.write(tmp_path / "file", {"x": np.zeros(3, np.float32)})
    tensorfile.read(tmp_path / "file").tensors["x"][:] = 7
    assert tensorfile.read(tmp_path / "file").tensors["x"].tolist() == [0, 0, 0]


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=60))
def test_arbitrary_bytes_are_refused_not_believed(tmp_path, data) -> None:
    (tmp_path / "file").write_bytes(data)
    try:
        tensors = tensorfile.read(tmp_path / "file").tensors
    except ModuleInvalidError as error:
        assert str(error).startswith("file is not a tensor file")
    else:
        assert tensors == {}


@pytest.mark.parametrize("cut", [4, 60, 200])
def test_a_truncated_file_is_refused(tmp_path, cut) -> None:
    tensorfile.write(tmp_path / "file", {"x": np.zeros((8, 8), np.float32)})
    whole = (tmp_path / "file").read_bytes()
    (tmp_path / "file").write_bytes(whole[:cut])
    with pytest.raises(ModuleInvalidError):
        tensorfile.read(tmp_path / "file")
