"""Memory given back: pages of mapped files go, what they hold does not."""

from __future__ import annotations

import ctypes
import mmap
import os
from pathlib import Path

from tailorbird_agent.runtimes import memory

SIZE = 64 * mmap.PAGESIZE


def resident_bytes(path: Path) -> int:
    """Of the file's mapping in this process."""
    lines = iter(Path("/proc/self/smaps").read_text().splitlines())
    next(line for line in lines if line.endswith(str(path)))
    return 1024 * int(next(line for line in lines if line.startswith("Rss:")).split()[1])


def mapped(path: Path, access: int) -> mmap.mmap:
    with path.open("r+b") as file:
        return mmap.mmap(file.fileno(), 0, access=access)


def test_pages_of_a_file_that_is_mapped_to_read_are_let_go_and_come_back(tmp_path: Path) -> None:
    path = tmp_path / "module.tflite"
    path.write_bytes(bytes(range(256)) * (SIZE // 256))
    with mapped(path, mmap.ACCESS_READ) as view:
        assert view[:] == path.read_bytes()
        assert resident_bytes(path) == SIZE
        memory.drop_pages(path)
        assert resident_bytes(path) < SIZE
        assert view[:] == path.read_bytes()


def test_what_was_written_into_a_private_mapping_stays(tmp_path: Path) -> None:
    path = tmp_path / "parameters"
    path.write_bytes(bytes(SIZE))
    with mapped(path, mmap.ACCESS_COPY) as view:
        view[:] = b"x" * SIZE
        memory.drop_pages(path)
        memory.settle()
        assert view[:] == b"x" * SIZE


def cached_pages(path: Path) -> int:
    """How many pages of a file the kernel holds in memory."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as mapping:
        pages = (ctypes.c_ubyte * (len(mapping) // mmap.PAGESIZE))()
        start = ctypes.c_char.from_buffer(mapping)
        address = ctypes.c_void_p(ctypes.addressof(start))
        assert ctypes.CDLL(None).mincore(address, ctypes.c_size_t(len(mapping)), pages) == 0
        del start  # it would keep the mapping open
        return sum(page & 1 for page in pages)


def test_a_module_that_is_loaded_again_does_not_wait_for_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "module"
    with path.open("wb") as file:
        file.write(bytes(16 * mmap.PAGESIZE))
        file.flush()
        os.fsync(file.fileno())  # only what is on the disk can leave the cache
    memory.drop_pages(path)
    assert cached_pages(path) == 16


def test_a_file_that_is_gone_is_nothing_to_let_go(tmp_path: Path) -> None:
    memory.drop_pages(tmp_path / "gone")


def test_code_is_let_go_and_the_process_goes_on() -> None:
    def code_bytes() -> int:
        lines = Path("/proc/self/smaps").read_text().splitlines()
        found, executable = 0, False
        for line in lines:
            first, *rest = line.split()
            if "-" in first and not first.endswith(":"):
                executable = rest[0] == "r-xp" and rest[-1].startswith("/")
            elif executable and first == "Rss:":
                found += int(rest[0])
        return found

    before = code_bytes()
    memory.settle()
    assert code_bytes() < before
