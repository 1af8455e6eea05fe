"""Reading a library's libc requirement."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailorbird.bundle.libc import glibc_needed, needed_versions

_GCC = shutil.which("gcc")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A shared library that uses glibc."""
    if _GCC is None:
        pytest.skip("gcc is not installed")
    folder: Path = tmp_path_factory.mktemp("elf")
    (folder / "a.c").write_text('#include <stdio.h>\nint f(char *b, double x) { return snprintf(b, 8, "%f", x); }\n')
    subprocess.run([_GCC, "-shared", "-fPIC", "-o", "a.so", "a.c"], cwd=folder, check=True)
    return (folder / "a.so").read_bytes()


def test_the_newest_version_used_is_the_requirement(library: bytes):
    versions = needed_versions(library)
    assert versions
    assert all(name.startswith("GLIBC_") for name in versions)
    newest = max(tuple(map(int, name.removeprefix("GLIBC_").split(".")[:2])) for name in versions)
    assert glibc_needed([b"not a library", library]) == "glibc {}.{}".format(*newest)


def test_the_reader_agrees_with_readelf(library: bytes, tmp_path: Path):
    readelf = shutil.which("readelf")
    if readelf is None:
        pytest.skip("readelf is not installed")
    (tmp_path / "a.so").write_bytes(library)
    shown = subprocess.run([readelf, "-V", "a.so"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert set(needed_versions(library)) == {
        line.split("Name: ")[1].split()[0] for line in shown.splitlines() if "Name: " in line and "Flags" in line
    }


@pytest.mark.parametrize("data", [b"", b"TFL3", b"\x00" * 100])
def test_other_files_need_no_libc(data: bytes):
    assert glibc_needed([data]) == ""


@given(st.integers(min_value=4, max_value=63))
def test_a_cut_header_is_a_value_error(length: int):
    with pytest.raises(ValueError, match="cut short"):
        needed_versions((b"\x7fELF\x02\x01" + b"\x40" * 64)[:length])
