"""What `tailorbird doctor` looks at. A check never raises: its result says what was found and how to mend it."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tailorbird.errors import TailorbirdError

#: Import name where it differs from the distribution's.
_IMPORTS = {
    "ai-edge-litert": "ai_edge_litert.interpreter",
    "apache-tvm": "tvm",
    "apache-tvm-ffi": "tvm_ffi",
    "grpcio": "grpc",
    "grpcio-health-checking": "grpc_health.v1.health",
    "grpcio-status": "grpc_status.rpc_status",
    "pillow": "PIL.Image",
    "protobuf": "google.protobuf",
    "scikit-learn": "sklearn",
}
_IMPORT_CHILD = """
import importlib, json, sys
for name in sys.argv[1:]:
    print(json.dumps([name, None]), flush=True)
    try:
        importlib.import_module(name)
        error = ""
    except Exception as fault:
        error = f"{type(fault).__name__}: {fault}"
    print(json.dumps([name, error]), flush=True)
"""
#: apache-tvm-ffi 0.1.15 resolves and imports, then dies on a signal here, which every tuning task passes through.
_FFI_CHILD = """
import tvm
from tvm import te
a = te.placeholder((8, 8), name="a")
b = te.compute((8, 8), lambda i, j: a[i, j] + 1.0, name="b")
module = tvm.IRModule({"main": te.create_prim_func([a, b])})
assert tvm.ir.load_json(tvm.ir.save_json(module))["main"] is not None
"""
_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?([^;]*)(?:;(.*))?")


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at; `fix` is set when it is not ok."""

    name: str
    ok: bool
    found: str
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Requirement:
    """A distribution the host needs and the versions accepted ("<2.14,>=2.13")."""

    name: str
    versions: str


def host_requirements(metadata: list[str] | None = None) -> tuple[Requirement, ...]:
    """What the base and the `host` extra require, from the installed package's own metadata."""
    lines = metadata if metadata is not None else importlib.metadata.requires("tailorbird") or []
    found: dict[str, Requirement] = {}
    for line in lines:
        match = _REQUIREMENT.fullmatch(line.strip())
        marker = (match and match[3]) or ""
        if match is None or match[1].lower() == "tailorbird" or "== 'armv7l'" in marker:
            continue
        if "extra" not in marker or re.search(r"extra == [\"']host[\"']", marker):
            found.setdefault(match[1].lower(), Requirement(match[1], match[2].strip()))
    return tuple(sorted(found.values(), key=lambda requirement: requirement.name.lower()))


def accepts(versions: str, version: str) -> bool:
    """Whether a version satisfies "<2.14,>=2.13" or "==0.1.14.post1"; local parts ("+cpu") do not count."""
    for clause in filter(None, (part.strip() for part in versions.split(","))):
        operator, _, wanted = re.split(r"(?<=[<>=!~])(?=[^<>=!~])", clause, maxsplit=1)[0], "", clause.lstrip("<>=!~ ")
        have, want = _key(version), _key(wanted)
        verdict = {
            "==": have == want,
            "!=": have != want,
            ">=": have >= want,
            "<=": have <= want,
            ">": have > want,
            "<": have < want,
            "~=": have >= want and have[: len(want) - 1] == want[:-1],
        }.get(operator.strip())
        if verdict is not True:
            return False
    return True


def _key(version: str) -> tuple[int, ...]:
    return tuple(int(digits) for digits in re.findall(r"\d+", version.partition("+")[0]))


def check_all() -> Iterator[Check]:
    """Every check, cheapest first."""
    yield check_python()
    requirements = host_requirements()
    yield from check_versions(requirements)
    yield from check_imports(requirements)
    yield check_ffi()
    yield check_compiler()
    yield check_home()
    yield from check_agents()


def check_python() -> Check:
    """The interpreter."""
    version = platform.python_version()
    return Check("python", sys.version_info >= (3, 10), f"{version} at {sys.executable}", "use Python 3.10 or newer")


def check_versions(requirements: tuple[Requirement, ...]) -> Iterator[Check]:
    """Installed versions against the accepted ones."""
    for requirement in requirements:
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            yield Check(requirement.name, ok=False, found="not installed", fix=_install(requirement))
            continue
        wanted = f", needs {requirement.versions}" if requirement.versions else ""
        ok = accepts(requirement.versions, version)
        yield Check(requirement.name, ok, version if ok else version + wanted, "" if ok else _install(requirement))


def check_imports(
    requirements: tuple[Requirement, ...], environment: Mapping[str, str] | None = None
) -> Iterator[Check]:
    """Import each package in a child process, so that one that dies on a signal is named instead of ending us."""
    modules = {_IMPORTS.get(r.name.lower(), r.name.lower().replace("-", "_")): r for r in requirements}
    waiting = list(modules)
    faults: dict[str, str] = {}
    while waiting:
        done = _child(["-c", _IMPORT_CHILD, *waiting], environment)
        rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
        faults |= {name: error for name, error in rows if error is not None}
        started = [name for name, error in rows if error is None and name not in faults]
        faults |= dict.fromkeys(started[-1:], f"the interpreter ended with status {done.returncode}")
        remaining = [name for name in waiting if name not in faults]
        if len(remaining) == len(waiting):
            faults |= dict.fromkeys(remaining, f"the child process ended with status {done.returncode}")
            break
        waiting = remaining
    bad = {name: error for name, error in faults.items() if error}
    if not bad:
        yield Check("imports", ok=True, found=f"{len(modules)} packages import")
    for name, error in bad.items():
        yield Check(f"import {name}", ok=False, found=error, fix=_install(modules[name], again=True))


def check_ffi(environment: Mapping[str, str] | None = None) -> Check:
    """The apache-tvm-ffi pin, by calling what the wrong release dies in."""
    done = _child(["-c", _FFI_CHILD], environment)
    if done.returncode == 0:
        return Check("tvm self-test", ok=True, found="save_json works")
    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
    found = f"save_json ended on signal {-done.returncode}" if done.returncode < 0 else last
    return Check("tvm self-test", ok=False, found=found, fix="pip install apache-tvm-ffi==0.1.14.post1")


def check_compiler() -> Check:
    """A C compiler that can link a shared library: TVM rungs are built with it."""
    found = next(filter(None, map(shutil.which, ("cc", "gcc"))), None)
    fix = "apt-get install gcc libc6-dev"
    if found is None:
        return Check("C compiler", ok=False, found="neither cc nor gcc is on the PATH", fix=fix)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "probe.c"
        source.write_text("#include <math.h>\ndouble probe(double x) { return sqrt(x); }\n", encoding="utf-8")
        done = subprocess.run(
            [found, "-shared", "-fPIC", "-o", f"{folder}/probe.so", str(source), "-lm"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    if done.returncode:
        return Check("C compiler", ok=False, found=f"{found}: {done.stderr.strip()[:200]}", fix=fix)
    return Check("C compiler", ok=True, found=found)


def check_home() -> Check:
    """Somewhere to keep artifacts and the data base, with room for them."""
    from tailorbird.db import home

    folder = home()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"probe")
    except OSError as error:
        return Check("home", ok=False, found=str(error), fix="set TAILORBIRD_HOME to a folder you may write to")
    free = shutil.disk_usage(folder).free
    ok = free > 1 << 30
    return Check(
        "home", ok, f"{folder}, {free / 2**30:.1f} GiB free", "" if ok else "free some space, or set TAILORBIRD_HOME"
    )


def check_agents() -> Iterator[Check]:
    """The local agent (or that one can be started) and every known device."""
    from tailorbird.device import Device, Devices, LocalAgent, local
    from tailorbird.device.registry import LOCAL

    try:
        with local(start=False) as device:
            yield Check("agent local", ok=True, found=_agent_words(device))
    except TailorbirdError:
        try:
            with tempfile.TemporaryDirectory(prefix="tailorbird-doctor-") as folder:
                agent = LocalAgent.start(Path(folder))
                try:
                    with Device.connect(agent.control) as device:
                        yield Check(
                            "agent local", ok=True, found=f"not running; a trial start worked ({_agent_words(device)})"
                        )
                finally:
                    agent.stop()
        except TailorbirdError as error:
            yield Check("agent local", ok=False, found=error.why or error.what, fix=error.fix)
    devices = Devices()
    for name in devices:
        if name == LOCAL:
            continue
        try:
            with Device.connect(devices.get(name).address, timeout_s=2.0) as device:
                yield Check(f"agent {name}", ok=True, found=_agent_words(device))
        except TailorbirdError as error:
            fix = error.fix or f"start tailorbird-agent there, or `tailorbird devices forget {name}`"
            yield Check(f"agent {name}", ok=False, found=error.why or error.what, fix=fix)


def _agent_words(device: object) -> str:
    from tailorbird.device import Device

    assert isinstance(device, Device)
    runtimes = ", ".join(f"{name} {version}" for name, version in device.card.runtimes) or "no runtime"
    return f"agent {device.card.agent_version}, {device.card.triple}, {runtimes}"


def _install(requirement: Requirement, *, again: bool = False) -> str:
    force = "--force-reinstall --no-deps " if again else ""
    return f"pip install {force}'{requirement.name}{requirement.versions}'"


def _child(arguments: list[str], environment: Mapping[str, str] | None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "PYTHONWARNINGS": "ignore", **(environment or {})},
    )
