import math
import os
import time
from pathlib import Path

import pytest
from hardware_trees import (
    amd_virtual_machine,
    cgroup_v1,
    cgroup_v2,
    jetson,
    laptop_battery,
    raspberry_pi_4,
    write_tree,
    x86_cpuinfo,
)

from tailorbird_agent.hardware import SensorReader, read_power_mode
from tailorbird_agent.hardware.tree import Tree


def read(root):
    return SensorReader(root, root).read()


def source(sensors, name):
    return next(reading.source for reading in sensors.readings if reading.name == name)


def test_a_virtual_machine_says_what_it_has_and_that_the_rest_is_unknown(tmp_path):
    sensors = read(amd_virtual_machine(tmp_path))
    assert sensors["frequency_hz"] == pytest.approx(2596.146e6)
    assert sensors["frequency_hz.cpu1"] == pytest.approx(2596.146e6)
    assert sensors["cpu_some_avg10_percent"] == 3.77
    assert sensors["memory_full_avg10_percent"] == 1.25
    assert sensors["memory_total_bytes"] == 1_024_000_000
    assert sensors["memory_available_bytes"] == 614_400_000
    assert sensors["swap_total_bytes"] == 0
    assert sensors["process_rss_bytes"] == 20_480_000
    assert sensors["load_1min"] == 0.58
    assert sensors["cpu_limit_cores"] == 2.0
    assert sensors["disk_free_bytes"] > 0
    for unknown in ("frequency_max_hz", "temperature_max_c", "thermal_headroom_c", "throttled", "throttle_count"):
        assert sensors[unknown] is None
        assert source(sensors, unknown).startswith("/sys/")
    for unknown in ("under_voltage", "battery_percent", "battery_discharging", "power_w", "cpu_throttled_count"):
        assert sensors[unknown] is None


def test_a_raspberry_pi_at_rest(tmp_path):
    sensors = read(raspberry_pi_4(tmp_path))
    assert sensors["frequency_hz"] == 1.5e9
    assert sensors["frequency_hz.cpu0"] == 0.6e9
    assert sensors["frequency_max_hz"] == 1.8e9
    assert sensors["frequency_limit_hz"] == 1.8e9
    assert sensors["temperature_c.cpu-thermal"] == 48.0
    assert sensors["temperature_max_c"] == 48.0
    assert sensors["thermal_headroom_c"] == 32.0  # to the passive trip point; the active one only starts a fan
    assert (sensors["throttled"], sensors["under_voltage"]) == (0.0, 0.0)
    assert sensors["cpu_some_avg10_percent"] is None  # its kernel has no PSI


@pytest.mark.parametrize(
    ("word", "throttled", "under_voltage"),
    [("0", 0.0, 0.0), ("50005", 1.0, 1.0), ("0x50000", 0.0, 0.0), ("2", 1.0, 0.0), ("8", 1.0, 0.0), ("1", 0.0, 1.0)],
)
def test_the_pi_firmware_word_is_read_for_now_not_for_the_past(tmp_path, word, throttled, under_voltage):
    sensors = read(raspberry_pi_4(tmp_path, throttled=word))
    assert (sensors["throttled"], sensors["under_voltage"]) == (throttled, under_voltage)


def test_the_pi_voltage_alarm_stands_in_for_a_firmware_word_that_cannot_be_read(tmp_path):
    raspberry_pi_4(tmp_path, throttled="not hex")
    write_tree(tmp_path, {"/sys/class/hwmon/hwmon1/in0_lcrit_alarm": "1\n"})
    sensors = read(tmp_path)
    assert sensors["under_voltage"] == 1.0
    assert sensors["throttled"] is None


def test_a_jetson_meters_its_rails_and_ignores_a_zone_that_is_off_and_a_running_fan(tmp_path):
    sensors = read(jetson(tmp_path))
    assert sensors["power_w.VDD_IN"] == pytest.approx(4.0)
    assert sensors["power_w.VDD_CPU_GPU_CV"] == pytest.approx(1.24)
    assert sensors["temperature_c.CPU-therm"] == 52.5
    assert sensors["temperature_c.GPU-therm"] is None
    assert sensors["thermal_headroom_c"] is None
    assert sensors["throttled"] == 0.0
    assert not any(reading.name.startswith("power_w.Sum") for reading in sensors.readings)


def test_a_capped_cpu_is_throttled(tmp_path):
    jetson(tmp_path)
    write_tree(tmp_path, {"/sys/class/thermal/cooling_device1/cur_state": "4\n"})
    sensors = read(tmp_path)
    assert sensors["throttled"] == 1.0
    assert source(sensors, "throttled") == "/sys/class/thermal/cooling_device1/cur_state"


def test_throttle_events_of_all_cores_are_added(tmp_path):
    for cpu, count in enumerate((3, 0, 4)):
        path = f"/sys/devices/system/cpu/cpu{cpu}/thermal_throttle/core_throttle_count"
        write_tree(tmp_path, {path: f"{count}\n"})
    assert read(tmp_path)["throttle_count"] == 7


def test_hardware_monitors_give_temperatures_and_limits_and_power(tmp_path):
    files = {
        "/sys/class/hwmon/hwmon0/name": "coretemp\n",
        "/sys/class/hwmon/hwmon0/temp1_label": "Package id 0\n",
        "/sys/class/hwmon/hwmon0/temp1_input": "61000\n",
        "/sys/class/hwmon/hwmon0/temp1_max": "100000\n",
        "/sys/class/hwmon/hwmon10/name": "ucsi\n",
        "/sys/class/hwmon/hwmon10/power1_input": "7500000\n",
        "/sys/class/hwmon/hwmon10/power1_label": "rail\n",
        "/sys/class/powercap/intel-rapl:0/name": "package-0\n",
        "/sys/class/powercap/intel-rapl:0/energy_uj": "2500000\n",
    }
    sensors = read(write_tree(tmp_path, files))
    assert sensors["temperature_c.coretemp.Package id 0"] == 61.0
    assert sensors["thermal_headroom_c"] == 39.0
    assert sensors["power_w.rail"] == 7.5
    assert sensors["energy_j.package-0"] == 2.5


def test_two_zones_of_one_type_keep_two_names(tmp_path):
    for zone, value in ((0, 40000), (1, 50000)):
        folder = f"/sys/class/thermal/thermal_zone{zone}"
        write_tree(tmp_path, {f"{folder}/type": "acpitz\n", f"{folder}/temp": f"{value}\n"})
    sensors = read(tmp_path)
    assert sensors["temperature_c.acpitz"] == 40.0
    assert sensors["temperature_c.acpitz.thermal_zone1"] == 50.0
    assert sensors["temperature_max_c"] == 50.0


@pytest.mark.parametrize(
    ("status", "discharging"),
    [("Discharging", 1.0), ("Charging", 0.0), ("Full", 0.0), ("Not charging", 0.0), ("Unknown", None)],
)
def test_a_battery_is_the_systems_not_the_mouses(tmp_path, status, discharging):
    sensors = read(laptop_battery(tmp_path, status))
    assert sensors["battery_percent"] == 42
    assert sensors["battery_discharging"] == discharging
    assert sensors["power_w.BAT0"] == pytest.approx(18.0)


def test_a_zero_clock_is_unknown(tmp_path):
    files = {
        "/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq": "0\n",
        "/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "0\n",
        "/proc/cpuinfo": x86_cpuinfo(1, mhz="0.000"),
    }
    sensors = read(write_tree(tmp_path, files))
    assert sensors["frequency_hz"] is None
    assert sensors["frequency_max_hz"] is None


def test_steal_is_a_share_of_the_time_between_two_reads(tmp_path):
    amd_virtual_machine(tmp_path)
    reader = SensorReader(tmp_path, tmp_path)
    assert reader.read()["steal_share"] is None
    write_tree(tmp_path, {"/proc/stat": "cpu  150 0 50 830 10 0 5 55 40 0\n"})
    assert reader.read()["steal_share"] == pytest.approx(0.2)


def test_cgroup_v2_limits_bind_wherever_they_are_set(tmp_path):
    amd_virtual_machine(tmp_path)
    sensors = read(cgroup_v2(tmp_path))
    assert sensors["cpu_limit_cores"] == 1.5
    assert source(sensors, "cpu_limit_cores") == "/sys/fs/cgroup/system.slice/agent.service/cpu.max"
    assert sensors["memory_limit_bytes"] == 536870912
    assert (sensors["cpu_throttled_count"], sensors["cpu_throttled_us"]) == (3, 12500.0)


def test_a_cgroup_v2_without_a_quota_leaves_the_affinity(tmp_path):
    amd_virtual_machine(tmp_path)
    assert read(cgroup_v2(tmp_path, quota="max 100000"))["cpu_limit_cores"] == 2.0


def test_inside_a_container_the_mounts_root_is_taken_off_the_groups_path(tmp_path):
    amd_virtual_machine(tmp_path)
    sensors = read(cgroup_v2(tmp_path, mount_root="/docker/abc", group="/docker/abc/app"))
    assert sensors["cpu_limit_cores"] == 1.5
    assert source(sensors, "cpu_limit_cores") == "/sys/fs/cgroup/app/cpu.max"


def test_cgroup_v1_limits_of_a_parent_bind(tmp_path):
    amd_virtual_machine(tmp_path)
    sensors = read(cgroup_v1(tmp_path))
    assert sensors["cpu_limit_cores"] == 0.5
    assert sensors["memory_limit_bytes"] == 268435456
    assert (sensors["cpu_throttled_count"], sensors["cpu_throttled_us"]) == (7, 2500.0)


def test_cgroup_v1_spells_no_limit_as_a_huge_number(tmp_path):
    amd_virtual_machine(tmp_path)
    sensors = read(cgroup_v1(tmp_path, quota="-1", limit="9223372036854771712"))
    assert sensors["cpu_limit_cores"] == 2.0
    assert sensors["memory_limit_bytes"] == 1_024_000_000


def test_with_no_file_at_all_every_sensor_is_unknown_but_the_affinity_and_the_disk(tmp_path):
    sensors = read(tmp_path)
    known = {reading.name for reading in sensors.readings if reading.value is not None}
    assert known == {"cpu_limit_cores", "disk_free_bytes"}
    assert all(reading.source for reading in sensors.readings)


def test_a_missing_disk_path_is_unknown(tmp_path):
    assert SensorReader(tmp_path, tmp_path / "nowhere").read()["disk_free_bytes"] is None


def test_files_full_of_garbage_give_unknowns_not_errors(tmp_path):
    amd_virtual_machine(tmp_path)
    raspberry_pi_4(tmp_path)
    jetson(tmp_path)
    laptop_battery(tmp_path)
    cgroup_v2(tmp_path)
    for file in [path for path in tmp_path.rglob("*") if path.is_file()]:
        file.write_bytes(b"\xff\x00 ga:rb=age - 7\n\n- -\n")
    for reading in read(tmp_path).readings:
        assert reading.value is None or reading.name in {"cpu_limit_cores", "disk_free_bytes"}, reading


def test_this_machine_is_read_quickly_and_without_duplicates():
    reader = SensorReader("/", Path.cwd())
    reader.read()
    sensors = reader.read()
    names = [reading.name for reading in sensors.readings]
    assert len(names) == len(set(names))
    assert sensors["memory_available_bytes"] > 0
    assert sensors["process_rss_bytes"] > 2**20
    assert sensors["disk_free_bytes"] > 0
    assert 0 < sensors["cpu_limit_cores"] <= os.cpu_count()
    assert all(reading.value is None or math.isfinite(reading.value) for reading in sensors.readings)
    assert sensors.as_dict()["load_1min"] == sensors["load_1min"]


def test_a_read_takes_less_than_five_milliseconds_of_cpu():
    reader = SensorReader()
    spent = []
    for _ in range(5):
        start = time.thread_time()
        reader.read()
        spent.append(time.thread_time() - start)
    assert min(spent) < 5e-3


def test_the_power_mode_names_what_the_kernel_tells_and_nothing_else(tmp_path):
    assert read_power_mode(Tree(tmp_path)) == ""
    cpus = "/sys/devices/system/cpu"
    files = {f"{cpus}/cpu{core}/cpufreq/scaling_governor": f"{name}\n" for core, name in enumerate(["schedutil"] * 2)}
    write_tree(tmp_path, files | {f"{cpus}/cpufreq/boost": "1\n", "/var/lib/nvpmodel/status": "pmode:0002 \n"})
    assert read_power_mode(Tree(tmp_path)) == "governor=schedutil boost=1 nvpmodel=pmode:0002"
    write_tree(tmp_path, {f"{cpus}/cpu1/cpufreq/scaling_governor": "performance\n"})
    assert read_power_mode(Tree(tmp_path)).startswith("governor=performance+schedutil ")
