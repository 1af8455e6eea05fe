import json
import subprocess
import sys

import pytest
from hardware_trees import AMD_FLAGS, amd_virtual_machine, arm_cpuinfo, jetson, raspberry_pi_4, write_tree, x86_cpuinfo

from tailorbird_agent.hardware import Cache, read_card
from tailorbird_agent.hardware.cache import size_bytes
from tailorbird_agent.hardware.llvm import arm_cpu, triple, x86_cpu


def test_an_amd_virtual_machine_is_recognised(tmp_path):
    card = read_card("0.1.0", name="guest", root=amd_virtual_machine(tmp_path), machine="x86_64")
    assert (card.name, card.agent_version, card.machine) == ("guest", "0.1.0", "x86_64")
    assert card.triple == "x86_64-linux-gnu"
    assert (card.cpu_model, card.llvm_cpu, card.cores) == ("AMD EPYC", "znver4", 2)
    assert card.isa_features == tuple(sorted(AMD_FLAGS.split()))
    assert card.caches == (
        Cache(1, "Data", 32768, 1),
        Cache(1, "Instruction", 32768, 1),
        Cache(2, "Unified", 1048576, 1),
        Cache(3, "Unified", 33554432, 2),
    )
    assert card.memory_bytes == 1_024_000_000
    assert card.kernel == "6.18.44"
    assert card.board is None


def test_a_raspberry_pi_is_recognised(tmp_path):
    card = read_card("0.1.0", root=raspberry_pi_4(tmp_path), machine="aarch64")
    assert card.triple == "aarch64-linux-gnu"
    assert (card.cpu_model, card.llvm_cpu, card.cores) == ("Cortex-A72", "cortex-a72", 4)
    assert card.board == "Raspberry Pi 4 Model B Rev 1.4"
    assert card.isa_features == ("asimd", "cpuid", "crc32", "evtstrm", "fp")
    assert card.caches == ()


def test_a_jetson_is_recognised(tmp_path):
    card = read_card("0.1.0", root=jetson(tmp_path), machine="aarch64")
    assert (card.cpu_model, card.llvm_cpu) == ("NVIDIA Carmel", "carmel")
    assert card.board == "NVIDIA Jetson Xavier NX Developer Kit"


def test_a_machine_without_any_file_still_has_a_card(tmp_path):
    card = read_card("0.1.0", root=tmp_path, machine="riscv64")
    assert (card.cpu_model, card.llvm_cpu, card.board) == ("unknown", "", None)
    assert (card.isa_features, card.caches, card.memory_bytes) == ((), (), 0)
    assert card.cores >= 1
    assert card.triple == "riscv64-linux-gnu"


def test_big_little_names_both_cores_and_compiles_for_the_lesser(tmp_path):
    write_tree(tmp_path, {"/proc/cpuinfo": arm_cpuinfo(["0xd05"] * 4 + ["0xd0b"] * 4)})
    card = read_card("0.1.0", root=tmp_path, machine="aarch64")
    assert (card.cpu_model, card.llvm_cpu) == ("Cortex-A55 + Cortex-A76", "cortex-a55")


def test_features_that_only_some_cores_have_are_not_promised(tmp_path):
    mixed = arm_cpuinfo(["0xd05"], features="fp asimd") + "\n" + arm_cpuinfo(["0xd0b"], features="fp asimd asimddp")
    write_tree(tmp_path, {"/proc/cpuinfo": mixed})
    assert read_card("0.1.0", root=tmp_path, machine="aarch64").isa_features == ("asimd", "fp")


def test_an_unknown_arm_core_is_named_by_number_and_not_guessed(tmp_path):
    write_tree(tmp_path, {"/proc/cpuinfo": arm_cpuinfo(["0xfff"])})
    card = read_card("0.1.0", root=tmp_path, machine="aarch64")
    assert (card.cpu_model, card.llvm_cpu) == ("ARM implementer 0x41 part 0xfff", "")
    assert arm_cpu([(0x41, 0xD03), (0x41, 0xFFF)]) == ""


def test_affinity_limits_the_cores(tmp_path):
    amd_virtual_machine(tmp_path)
    write_tree(tmp_path, {"/proc/self/status": "Cpus_allowed_list:\t0,2-3,8\n"})
    assert read_card("0.1.0", root=tmp_path, machine="x86_64").cores == 4


V2 = "cx16 lahf_lm popcnt pni ssse3 sse4_1 sse4_2"
V3 = f"{V2} avx avx2 bmi1 bmi2 f16c fma abm movbe xsave"
SKYLAKE = f"{V3} aes pclmulqdq adx"
SKX = f"{SKYLAKE} avx512f avx512bw avx512cd avx512dq avx512vl"


@pytest.mark.parametrize(
    ("vendor", "family", "model", "flags", "expected"),
    [
        ("AuthenticAMD", 25, 17, AMD_FLAGS, "znver4"),
        ("AuthenticAMD", 25, 97, AMD_FLAGS, "znver4"),
        ("AuthenticAMD", 25, 33, AMD_FLAGS, "znver3"),
        ("AuthenticAMD", 25, 17, AMD_FLAGS.replace("avx512_bf16", ""), "znver3"),
        ("AuthenticAMD", 23, 49, AMD_FLAGS, "znver2"),
        ("AuthenticAMD", 23, 1, AMD_FLAGS, "znver1"),
        ("AuthenticAMD", 26, 68, AMD_FLAGS, "znver4"),
        ("AuthenticAMD", 99, 0, AMD_FLAGS, "x86-64-v4"),
        ("GenuineIntel", 6, 0x55, f"{SKX} avx512_vnni", "cascadelake"),
        ("GenuineIntel", 6, 0x55, SKX, "skylake-avx512"),
        ("GenuineIntel", 6, 0x55, SKYLAKE, "x86-64-v3"),
        ("GenuineIntel", 6, 0x6A, AMD_FLAGS, "icelake-server"),
        ("GenuineIntel", 6, 0x9E, SKYLAKE, "skylake"),
        ("GenuineIntel", 6, 0x3C, f"{V3} aes pclmulqdq", "haswell"),
        ("GenuineIntel", 6, 0xFE, V3, "x86-64-v3"),
        ("CentaurHauls", 7, 1, V2, "x86-64-v2"),
        ("GenuineIntel", 15, 4, "fpu sse2", "x86-64"),
    ],
)
def test_an_x86_name_is_given_only_when_all_its_features_are_there(vendor, family, model, flags, expected):
    assert x86_cpu(vendor, family, model, frozenset(flags.split())) == expected


@pytest.mark.parametrize(
    ("machine", "libc", "expected"),
    [
        ("x86_64", "glibc 2.36", "x86_64-linux-gnu"),
        ("aarch64", "musl", "aarch64-linux-musl"),
        ("armv7l", "glibc 2.31", "armv7l-linux-gnueabihf"),
    ],
)
def test_triples(machine, libc, expected):
    assert triple(machine, libc) == expected


@pytest.mark.parametrize(
    ("text", "expected"), [("32K", 32768), ("4M", 4194304), ("512", 512), ("", None), ("K", None), (None, None)]
)
def test_cache_sizes(text, expected):
    assert size_bytes(text) == expected


def test_a_damaged_cpuinfo_gives_unknowns_not_errors(tmp_path):
    write_tree(tmp_path, {"/proc/cpuinfo": b"processor: 0\nvendor_id: GenuineIntel\nmodel: x\n\xff\xfe\n\n:::\n\n"})
    card = read_card("0.1.0", root=tmp_path, machine="x86_64")
    assert (card.cpu_model, card.llvm_cpu) == ("unknown", "x86-64")


def test_firmware_without_a_board_name_is_no_board(tmp_path):
    write_tree(
        tmp_path, {"/sys/class/dmi/id/product_name": "To Be Filled By O.E.M.\n", "/proc/cpuinfo": x86_cpuinfo(1)}
    )
    assert read_card("0.1.0", root=tmp_path, machine="x86_64").board is None


def test_runtimes_are_found_without_importing_them():
    probe = (
        "import sys, json; from tailorbird_agent.hardware import read_card; card = read_card('9.9'); "
        "heavy = {'numpy', 'tvm_ffi', 'ai_edge_litert'}; "
        "print(json.dumps([card.runtimes, sorted(heavy & set(sys.modules))]))"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, timeout=60, check=True)
    runtimes, imported = json.loads(done.stdout)
    assert imported == []
    assert ["reference", "9.9"] in runtimes
    assert runtimes == sorted(runtimes)


def test_this_machine_has_a_card():
    card = read_card("0.1.0")
    assert card.cores >= 1
    assert card.memory_bytes > 2**26
    assert card.cpu_model
    assert card.kernel
    assert card.triple.startswith(card.machine)
    assert list(card.isa_features) == sorted(set(card.isa_features))
