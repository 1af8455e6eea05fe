"""Which devices are proxies, which are targets, and which architectures are measured and predicted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.bench.latency_fewshot.tables import SYNTHETIC, Table, table

_HELP = {
    "nb201": "1080ti_1 1080ti_32 1080ti_256 silver_4114 silver_4210r samsung_a50 pixel3 essential_ph_1 samsung_s7",
    "fbnet": "1080ti_1 1080ti_32 1080ti_64 silver_4114 silver_4210r samsung_a50 pixel3 essential_ph_1 samsung_s7",
}
_HELP_TARGETS = {"nb201": "titan_rtx_256 gold_6226 fpga pixel2 raspi4 eyeriss", "fbnet": "fpga raspi4 eyeriss"}

# NASFLAT's tasks: space, proxies, targets. * marks those with proxies or targets that were never published.
_NASFLAT = {
    "N1*": (
        "nb201x41",
        "eagle_tpu eagle_gpu_855 help_eyeriss help_pixel3",
        "help_1080ti_1 help_titan_rtx_32 help_titanxp_1 help_2080ti_32 help_titan_rtx_1",
    ),
    "N2*": (
        "nb201x41",
        "help_1080ti_1 help_1080ti_32 help_titanx_32 help_titanxp_1 help_titanxp_32",
        "eagle_jetson_16 eagle_tpu eagle_dsp_855 help_pixel3",
    ),
    "N3*": (
        "nb201x41",
        "eagle_gtx eagle_jetson_16 eagle_gpu_855 help_eyeriss",
        "help_1080ti_1 help_2080ti_1 help_titanxp_1 help_2080ti_32 help_titanxp_32",
    ),
    "N4*": (
        "nb201x41",
        "eagle_i7 eagle_jetson eagle_tpu eagle_cpu_855 eagle_dsp_855 eagle_gpu_855 help_eyeriss help_pixel2",
        "help_1080ti_1 help_2080ti_1 help_titan_rtx_1",
    ),
    "N5": (
        "nb201x41",
        (
            "help_titan_rtx_1 help_titan_rtx_32 help_titanxp_1 help_2080ti_1 help_titanx_1 help_1080ti_1 "
            "help_titanx_32 help_titanxp_32 help_2080ti_32 help_1080ti_32 help_gold_6226 help_samsung_s7 "
            "help_silver_4114 help_gold_6240 help_silver_4210r help_samsung_a50 help_pixel2"
        ),
        "help_eyeriss eagle_gtx eagle_tpu",
    ),
    "F1": (
        "fbnet",
        "2080ti_1 essential_ph_1 silver_4114 titan_rtx_1 titan_rtx_32",
        "eyeriss fpga raspi4 samsung_a50 samsung_s7",
    ),
    "F2": (
        "fbnet",
        "essential_ph_1 gold_6226 gold_6240 pixel3 raspi4",
        "1080ti_1 1080ti_32 2080ti_32 titan_rtx_1 titanxp_1",
    ),
    "F3": (
        "fbnet",
        "essential_ph_1 pixel2 pixel3 raspi4 samsung_s7",
        "1080ti_1 1080ti_32 2080ti_1 titan_rtx_1 titan_rtx_32",
    ),
    "F4": (
        "fbnet",
        "1080ti_64 2080ti_1 eyeriss gold_6226 gold_6240 raspi4 samsung_s7 silver_4210r titan_rtx_1 titan_rtx_32",
        "1080ti_1 pixel2 essential_ph_1",
    ),
    "F5": (
        "fbnet",
        (
            "1080ti_1 1080ti_32 1080ti_64 2080ti_1 2080ti_32 2080ti_64 titan_rtx_1 titan_rtx_32 titan_rtx_64 titanx_1 "
            "titanx_32 titanx_64 titanxp_1 titanxp_32 titanxp_64"
        ),
        "gold_6226 essential_ph_1 samsung_s7 pixel2",
    ),
}

# Devices of one family: the same chip, the same generation, or another measurement of the same board.
_FAMILIES = (
    ("titan_rtx", "2080ti"),
    ("1080ti", "titanx", "titan_xp"),
    ("silver",),
    ("gold",),
    ("v100",),
    ("eagle_gtx", "eagle_i7"),
    ("true_630", "true_640", "eagle_gpu_855"),
    ("eagle_tpu", "rice_edgetpu"),
    ("eagle_jetson", "rice_edgegpu"),
    ("eagle_cpu_855", "true_a76"),
)
_LODO_SPACES = ("nb201x41", "fbnet", "ofa")
_LODO_TARGETS = 3

_ONE_PROXY = {
    "nb201x41": (
        "help_pixel3",
        (
            "eagle_gtx eagle_cpu_855 eagle_dsp_855 eagle_gpu_855 eagle_jetson eagle_jetson_16 eagle_tpu rice_edgegpu "
            "help_eyeriss help_fpga help_raspi4 true_630 true_640 true_a76 true_vpu"
        ),
    ),
    "fbnet": (
        "pixel3",
        "raspi4 eyeriss fpga essential_ph_1 pixel2 samsung_a50 samsung_s7 gold_6226 silver_4114 1080ti_1 titan_rtx_64",
    ),
}

SUITES = ("nasflat", "help", "oneproxy", "lodo")
_POOL = {"nb201": 512, "nb201x41": 512, "fbnet": 800, "ofa": 800}
_TEST = 1000
# HELP's split: the first architectures are for training, the next thousand for testing, both without the fastest and
# the slowest tenth on the target.
_HELP_FIRST, _HELP_POOL = {"nb201": 900, "fbnet": 4000}, 1000


@dataclass(frozen=True, slots=True)
class Pair:
    """One target device of one task."""

    suite: str
    task: str
    space: str
    proxies: tuple[str, ...]
    target: str

    @property
    def synthetic(self) -> bool:
        return self.target in SYNTHETIC[self.space]


@dataclass(frozen=True, slots=True)
class Split:
    """Rows of a table: pool (measured on proxies), candidates (of the pool, for samples; in random order), test."""

    pool: np.ndarray
    candidates: np.ndarray
    test: np.ndarray


def pairs(data: Path, suites: Sequence[str] = SUITES) -> list[Pair]:
    """All pairs of task and target of the suites."""
    listed = {"nasflat": _nasflat, "help": _help, "oneproxy": _oneproxy, "lodo": lambda: _lodo(data)}
    return [
        Pair(suite, task, space, proxies, target)
        for suite in suites
        for task, space, proxies, targets in listed[suite]()
        for target in targets
    ]


_Listed = list[tuple[str, str, tuple[str, ...], tuple[str, ...]]]


def _nasflat() -> _Listed:
    plain = [
        (name, space, tuple(_HELP[space].split()), tuple(_HELP_TARGETS[space].split()))
        for name, space in (("ND", "nb201"), ("FD", "fbnet"))
    ]
    return plain + [
        (name, space, tuple(proxies.split()), tuple(targets.split()))
        for name, (space, proxies, targets) in _NASFLAT.items()
    ]


def _help() -> _Listed:
    return [
        (f"HELP {space}", space, tuple(_HELP[space].split()), tuple(_HELP_TARGETS[space].split()))
        for space in ("nb201", "fbnet")
    ]


def _oneproxy() -> _Listed:
    return [
        (f"from {proxy}, {space}", space, (proxy,), tuple(targets.split()))
        for space, (proxy, targets) in _ONE_PROXY.items()
    ]


def _lodo(data: Path) -> _Listed:
    found = []
    for space in _LODO_SPACES:
        devices = table(data, space).devices
        families: dict[str, list[str]] = {}
        for device in devices:
            families.setdefault(family(device), []).append(device)
        for name, members in families.items():
            proxies = tuple(device for device in devices if family(device) != name)
            found.append((f"without {name}, {space}", space, proxies, tuple(members[:_LODO_TARGETS])))
    return found


def family(device: str) -> str:
    """Name of the family a device belongs to: its own where it is alone."""
    bare = device.removeprefix("help_")
    for members in _FAMILIES:
        if any(member in bare for member in members):
            return members[0]
    return bare


def split(pair: Pair, known: Table, seed: int) -> Split:
    """Architectures of one draw, all of them measured on the target and on all proxies in truth."""
    rng = np.random.default_rng(1000 + seed)
    target = known.of(pair.target)
    complete = np.isfinite(target)
    for proxy in pair.proxies:
        complete &= np.isfinite(known.of(proxy))
    rows = np.flatnonzero(complete)
    if pair.suite == "help":
        first = _HELP_FIRST[pair.space]
        pool = rows[rows < first]
        pool = np.sort(rng.permutation(pool)[:_HELP_POOL])
        candidates = np.intersect1d(_middle(rows[rows < first], target), pool)
        return Split(pool, rng.permutation(candidates), _middle(rows[(rows >= first) & (rows < first + 1000)], target))
    order = rng.permutation(rows)
    size = _POOL[pair.space]
    return Split(order[:size], rng.permutation(order[:size]), order[size : size + _TEST])


def _middle(rows: np.ndarray, target: np.ndarray) -> np.ndarray:
    ordered = rows[np.argsort(target[rows], kind="stable")]
    return ordered[int(len(rows) * 0.1) : int(len(rows) * 0.9)]
