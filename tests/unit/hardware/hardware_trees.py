"""Files of /proc and /sys as real boards have them, cut down to what identifies them."""

AMD_FLAGS = (
    "fpu vme cx16 lahf_lm popcnt pni ssse3 sse4_1 sse4_2 sse4a avx avx2 bmi1 bmi2 f16c fma abm movbe xsave aes "
    "pclmulqdq adx sha_ni vaes vpclmulqdq gfni avx512f avx512bw avx512cd avx512dq avx512vl avx512ifma "
    "avx512vbmi avx512_vbmi2 avx512_vnni avx512_bitalg avx512_vpopcntdq avx512_bf16"
)
MEMINFO = "MemTotal: 1000000 kB\nMemFree: 10 kB\nMemAvailable: 600000 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n"
PRESSURE = "some avg10=3.77 avg60=1.07 avg300=0.41 total=1\nfull avg10=1.25 avg60=0.00 avg300=0.00 total=0\n"


def write_tree(root, files):
    for path, content in files.items():
        file = root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def x86_cpuinfo(cpus, vendor="AuthenticAMD", family=25, model=17, flags=AMD_FLAGS, name="AMD EPYC", mhz="2596.146"):
    return "".join(
        f"processor\t: {cpu}\nvendor_id\t: {vendor}\ncpu family\t: {family}\nmodel\t\t: {model}\nmodel name\t: {name}\n"
        f"cpu MHz\t\t: {mhz}\nflags\t\t: {flags}\n\n"
        for cpu in range(cpus)
    )


def arm_cpuinfo(parts, features="fp asimd evtstrm crc32 cpuid", implementer="0x41"):
    blocks = "".join(
        f"processor\t: {cpu}\nBogoMIPS\t: 108.00\nFeatures\t: {features}\nCPU implementer\t: {implementer}\n"
        f"CPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: {part}\nCPU revision\t: 3\n\n"
        for cpu, part in enumerate(parts)
    )
    return blocks + "Hardware\t: BCM2835\nRevision\t: c03114\nModel\t\t: Raspberry Pi 4 Model B Rev 1.4\n"


def amd_virtual_machine(root):
    """Two cores, no cpufreq, no thermal zone, no hwmon: what a cloud guest sees."""
    files = {
        "/proc/cpuinfo": x86_cpuinfo(2),
        "/proc/meminfo": MEMINFO,
        "/proc/loadavg": "0.58 0.40 0.30 2/123 4567\n",
        "/proc/stat": "cpu  100 0 50 800 10 0 5 35 0 0\ncpu0 50 0 25 400 5 0 2 17 0 0\n",
        "/proc/sys/kernel/osrelease": "6.18.44\n",
        "/proc/self/status": "Name:\tpython\nVmRSS:\t   20000 kB\nCpus_allowed:\t3\nCpus_allowed_list:\t0-1\n",
        **{f"/proc/pressure/{each}": PRESSURE for each in ("cpu", "memory", "io")},
    }
    for cpu in range(2):
        cache = f"/sys/devices/system/cpu/cpu{cpu}/cache"
        for index, (level, kind, size, sharers) in enumerate(
            [
                (1, "Data", "32K", cpu),
                (1, "Instruction", "32K", cpu),
                (2, "Unified", "1024K", cpu),
                (3, "Unified", "32M", "0-1"),
            ]
        ):
            files[f"{cache}/index{index}/level"] = f"{level}\n"
            files[f"{cache}/index{index}/type"] = f"{kind}\n"
            files[f"{cache}/index{index}/size"] = f"{size}\n"
            files[f"{cache}/index{index}/shared_cpu_list"] = f"{sharers}\n"
    return write_tree(root, files)


def raspberry_pi_4(root, throttled="0", temperature="48000"):
    """Four Cortex-A72 at 1.5 GHz of 1.8 GHz, one thermal zone, the firmware's throttle word."""
    files = {
        "/proc/cpuinfo": arm_cpuinfo(["0xd08"] * 4),
        "/proc/meminfo": MEMINFO,
        "/proc/device-tree/model": b"Raspberry Pi 4 Model B Rev 1.4\0",
        "/proc/self/status": "Cpus_allowed_list:\t0-3\n",
        "/sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
        "/sys/class/thermal/thermal_zone0/temp": f"{temperature}\n",
        "/sys/class/thermal/thermal_zone0/trip_point_0_type": "critical\n",
        "/sys/class/thermal/thermal_zone0/trip_point_0_temp": "110000\n",
        "/sys/class/thermal/thermal_zone0/trip_point_1_type": "passive\n",
        "/sys/class/thermal/thermal_zone0/trip_point_1_temp": "80000\n",
        "/sys/class/thermal/thermal_zone0/trip_point_2_type": "active\n",
        "/sys/class/thermal/thermal_zone0/trip_point_2_temp": "50000\n",
        "/sys/devices/platform/soc/soc:firmware/get_throttled": f"{throttled}\n",
        "/sys/class/hwmon/hwmon1/name": "rpi_volt\n",
        "/sys/class/hwmon/hwmon1/in0_lcrit_alarm": "0\n",
    }
    for cpu in range(4):
        cpufreq = f"/sys/devices/system/cpu/cpu{cpu}/cpufreq"
        files[f"{cpufreq}/scaling_cur_freq"] = "1500000\n" if cpu else "600000\n"
        files[f"{cpufreq}/scaling_max_freq"] = "1800000\n"
        files[f"{cpufreq}/cpuinfo_max_freq"] = "1800000\n"
    return write_tree(root, files)


def jetson(root):
    """Carmel cores, a zone that is switched off, an ina3221 that meters two rails, a cpufreq cooling device."""
    files = {
        "/proc/cpuinfo": arm_cpuinfo(["0x004"] * 6, features="fp asimd fphp asimdhp dcpop", implementer="0x4e"),
        "/proc/meminfo": MEMINFO,
        "/proc/device-tree/model": b"NVIDIA Jetson Xavier NX Developer Kit\0",
        "/sys/class/thermal/thermal_zone0/type": "CPU-therm\n",
        "/sys/class/thermal/thermal_zone0/temp": "52500\n",
        "/sys/class/thermal/thermal_zone0/trip_point_0_type": "passive\n",
        "/sys/class/thermal/thermal_zone0/trip_point_0_temp": "-274000\n",
        "/sys/class/thermal/thermal_zone1/type": "GPU-therm\n",
        "/sys/class/thermal/thermal_zone1/temp": "-274000\n",
        "/sys/class/thermal/cooling_device0/type": "pwm-fan\n",
        "/sys/class/thermal/cooling_device0/cur_state": "3\n",
        "/sys/class/thermal/cooling_device1/type": "thermal-cpufreq-0\n",
        "/sys/class/thermal/cooling_device1/cur_state": "0\n",
        "/sys/class/hwmon/hwmon3/name": "ina3221\n",
        "/sys/class/hwmon/hwmon3/in1_label": "VDD_IN\n",
        "/sys/class/hwmon/hwmon3/in1_input": "5000\n",
        "/sys/class/hwmon/hwmon3/curr1_input": "800\n",
        "/sys/class/hwmon/hwmon3/in2_label": "VDD_CPU_GPU_CV\n",
        "/sys/class/hwmon/hwmon3/in2_input": "4960\n",
        "/sys/class/hwmon/hwmon3/curr2_input": "250\n",
        "/sys/class/hwmon/hwmon3/in7_label": "Sum of shunt voltages\n",
        "/sys/class/hwmon/hwmon3/in7_input": "7\n",
    }
    return write_tree(root, files)


def laptop_battery(root, status="Discharging"):
    files = {
        "/sys/class/power_supply/AC/type": "Mains\n",
        "/sys/class/power_supply/AC/online": "0\n",
        "/sys/class/power_supply/BAT0/type": "Battery\n",
        "/sys/class/power_supply/BAT0/capacity": "42\n",
        "/sys/class/power_supply/BAT0/status": f"{status}\n",
        "/sys/class/power_supply/BAT0/current_now": "1500000\n",
        "/sys/class/power_supply/BAT0/voltage_now": "12000000\n",
        "/sys/class/power_supply/hid-mouse/type": "Battery\n",
        "/sys/class/power_supply/hid-mouse/scope": "Device\n",
        "/sys/class/power_supply/hid-mouse/capacity": "3\n",
    }
    return write_tree(root, files)


def cgroup_v2(root, *, mount_root="/", group="/system.slice/agent.service", quota="150000 100000"):
    inside = group.removeprefix(mount_root) if mount_root != "/" else group
    own = f"/sys/fs/cgroup{inside}".rstrip("/")
    files = {
        "/proc/self/cgroup": f"0::{group}\n",
        "/proc/self/mountinfo": f"31 23 0:28 {mount_root} /sys/fs/cgroup rw,relatime shared:4 - cgroup2 cgroup2 rw\n",
        f"{own}/cpu.max": f"{quota}\n",
        f"{own}/memory.max": "max\n",
        f"{own}/cpu.stat": "usage_usec 900\nnr_periods 10\nnr_throttled 3\nthrottled_usec 12500\n",
        "/sys/fs/cgroup/system.slice/cpu.max": "max 100000\n",
        "/sys/fs/cgroup/system.slice/memory.max": "536870912\n",
    }
    return write_tree(root, files)


def cgroup_v1(root, *, quota="50000", limit="268435456"):
    files = {
        "/proc/self/cgroup": "4:memory:/box\n3:cpu,cpuacct:/box/inner\n1:name=systemd:/\n0::/\n",
        "/proc/self/mountinfo": (
            "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"
            "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"
            "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
            "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"
        ),
        "/sys/fs/cgroup/cpu,cpuacct/box/inner/cpu.cfs_quota_us": "-1\n",
        "/sys/fs/cgroup/cpu,cpuacct/box/inner/cpu.cfs_period_us": "100000\n",
        "/sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_quota_us": f"{quota}\n",
        "/sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_period_us": "100000\n",
        "/sys/fs/cgroup/cpu,cpuacct/box/cpu.stat": "nr_periods 10\nnr_throttled 7\nthrottled_time 2500000\n",
        "/sys/fs/cgroup/memory/box/memory.limit_in_bytes": f"{limit}\n",
    }
    return write_tree(root, files)
