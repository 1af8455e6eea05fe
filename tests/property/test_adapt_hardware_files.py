from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tailorbird_agent.hardware import SensorReader, read_card

FILES = (
    "proc/cpuinfo",
    "proc/meminfo",
    "proc/stat",
    "proc/loadavg",
    "proc/pressure/memory",
    "proc/self/status",
    "proc/self/cgroup",
    "proc/self/mountinfo",
    "sys/devices/system/cpu/cpu0/cache/index0/size",
    "sys/devices/system/cpu/cpu0/cache/index0/level",
    "sys/class/thermal/thermal_zone0/temp",
    "sys/class/hwmon/hwmon0/temp1_input",
    "sys/devices/platform/soc/soc:firmware/get_throttled",
)
LIKELY = (
    "processor: 0\nvendor_id: AuthenticAMD\ncpu family: 25\nmodel: 17\nflags: ",
    "processor: 1\nCPU implementer: 0x41\nCPU part: 0xd08\nFeatures: fp\n\n",
    "MemTotal: 12 kB\nVmRSS: -1 kB\nCpus_allowed_list: 0-99999999999\n",
    "cpu 1 2 3 4 5 6 7 8 9 10\n",
    "some avg10=nan avg60=\n",
    "3:cpu:/a\n0::/../b\n",
    "1 2 0:3 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
    "32K",
    "-1",
    "0x",
    "²٣",  # a digit to Python, not to the kernel
    "999999999999999999999999",
)
content = (
    st.lists(st.sampled_from(LIKELY) | st.text(max_size=12), max_size=4).map("".join).map(str.encode) | st.binary()
)


@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_content_of_proc_and_sys_makes_reading_fail(tmp_path, data):
    for path in FILES:
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data.draw(content))
    card = read_card("0.1.0", root=tmp_path, machine="x86_64")
    assert card.cores >= 1
    assert card.memory_bytes >= 0
    reader = SensorReader(tmp_path, tmp_path)
    reader.read()
    for reading in reader.read().readings:
        assert reading.value is None or abs(reading.value) < float("inf"), reading
