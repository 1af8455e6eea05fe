import os
import threading
import time
from pathlib import Path

import pytest
from hardware_trees import write_tree

from tailorbird_agent.hardware.cputime import CpuTime, ThreadTime, busiest_us, own_run_times_us, read_cpu_time


def threads(root, pid, **schedstats):
    return write_tree(root, {f"/proc/{pid}/task/{tid[1:]}/schedstat": text for tid, text in schedstats.items()})


def test_threads_are_read_in_microseconds(tmp_path):
    threads(tmp_path, 7, t7="2000000 500000 3\n", t12="4000000 0 1\n")
    used = read_cpu_time(7, tmp_path)
    assert used.threads == (ThreadTime(7, 2000.0, 500.0), ThreadTime(12, 4000.0, 0.0))
    assert (used.run_us, used.delay_us, used.busiest_us) == (6000.0, 500.0, 4000.0)


def test_a_difference_counts_new_threads_whole_and_leaves_out_ended_ones():
    before = CpuTime((ThreadTime(1, 100.0, 10.0), ThreadTime(2, 900.0, 0.0)))
    after = CpuTime((ThreadTime(1, 150.0, 30.0), ThreadTime(3, 40.0, 5.0)))
    used = after.since(before)
    assert used.threads == (ThreadTime(1, 50.0, 20.0), ThreadTime(3, 40.0, 5.0))
    assert used.busiest_us == 50.0


def test_a_thread_that_vanished_or_cannot_be_parsed_is_left_out(tmp_path):
    threads(tmp_path, 7, t7="1000 0 1\n", t8="", t9="no numbers\n")
    assert [thread.tid for thread in read_cpu_time(7, tmp_path).threads] == [7]


def test_a_process_that_is_gone_is_an_error(tmp_path):
    with pytest.raises(ProcessLookupError, match="/proc/99/task"):
        read_cpu_time(99, tmp_path)


def test_own_threads_are_timed_exactly_and_the_busiest_is_found():
    ready, done = threading.Event(), threading.Event()
    worked: list[float] = []

    def work():
        ready.wait()
        start = time.thread_time()
        while time.thread_time() - start < 0.02:
            pass
        worked.append((time.thread_time() - start) * 1e6)
        done.wait()

    thread = threading.Thread(target=work)
    thread.start()
    before = own_run_times_us()
    assert set(before) >= {os.getpid(), thread.native_id}
    ready.set()
    while not worked:
        thread.join(0.005)
    after = own_run_times_us([thread.native_id])
    done.set()
    thread.join()
    assert busiest_us(before, after) == pytest.approx(worked[0], abs=5000.0)


def test_a_thread_that_is_not_ours_has_no_time():
    assert own_run_times_us([2**22 + 1]) == {}


def test_this_process_is_visible_from_outside_where_the_kernel_keeps_statistics():
    if not Path("/proc/self/schedstat").exists():
        pytest.skip("this kernel keeps no scheduler statistics")
    before = read_cpu_time(os.getpid())
    start = time.thread_time()
    while time.thread_time() - start < 0.03:
        pass
    used = read_cpu_time(os.getpid()).since(before)
    assert used.busiest_us == pytest.approx(30_000.0, abs=15_000.0)  # up to a tick old for a running thread
    assert used.run_us >= used.busiest_us
