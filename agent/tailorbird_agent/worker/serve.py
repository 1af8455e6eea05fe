"""The serving worker: one ladder, one request after the other, in the order they came.

A single thread receives, runs and answers. The socket is the queue, so no request waits for a hand-over between
threads, and what a request may touch (its own slot, its own time) cannot overlap another's.
"""

from __future__ import annotations

import gc
import mmap
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from tailorbird_agent.adapt import RungProfile, make_ladder
from tailorbird_agent.runtimes import memory as process_memory
from tailorbird_agent.runtimes.base import Array
from tailorbird_agent.worker.arena import Layout
from tailorbird_agent.worker.channel import Channel, Message
from tailorbird_agent.worker.failure import WorkerError
from tailorbird_agent.worker.governor import Governor, note
from tailorbird_agent.worker.ladder import ResidentRung, RungLoader
from tailorbird_agent.worker.plan import DATATYPES, RungCheck, ServePlan, TensorSpec
from tailorbird_agent.worker.residency import Residency, needed

#: A message has to fit a packet; runtimes are known to print their stacks into an error.
_ERROR_CHARACTERS = 2000


def serve(descriptor: int, sandbox: Sequence[str]) -> None:
    """Load the plan that comes first over the channel, then answer requests until told to stop."""
    channel = Channel.adopt(descriptor)
    message, descriptors = channel.receive_with_descriptors()
    if message is None:
        return
    plan = ServePlan.from_json(message["plan"])
    try:
        residency, checks, names = _load(plan)
        governor = _govern(plan, residency)
        slots = _map_slots(descriptors[0], plan.inputs, plan.outputs)
    except WorkerError as error:
        channel.send({"error": (error.reason, error.message[:_ERROR_CHARACTERS])})
        return
    # What loading made lives as long as the process: the collector need not look at it again.
    gc.collect()
    gc.freeze()
    server = Server(channel, slots, Rungs(names, residency), governor)
    ready = {"sandbox": list(sandbox), "checks": [asdict(check) for check in checks], "current": governor.live.name}
    channel.send(ready)
    server.run()
    # Runtimes have been seen to hang in their destructors; nothing here needs them.
    os._exit(0)


class Slot:
    """The arrays of one slot, views of shared memory."""

    __slots__ = ("inputs", "outputs")

    def __init__(self, inputs: list[Array], outputs: list[Array]) -> None:
        self.inputs = inputs
        self.outputs = outputs


class Rungs:
    """The rungs by name, fastest first, wherever they are."""

    def __init__(self, names: Sequence[str], residency: Residency[ResidentRung]) -> None:
        self.residency = residency
        self._names = tuple(names)

    def __getitem__(self, name: str) -> ResidentRung:
        return self.residency.get(self.index(name))

    def index(self, name: str) -> int:
        """A rung's place."""
        return self._names.index(name)

    @property
    def dismissed(self) -> tuple[str, ...]:
        """Those left out on request."""
        return tuple(self._names[index] for index in self.residency.dismissed)

    @property
    def resident(self) -> tuple[str, ...]:
        """Those in memory."""
        return tuple(self._names[index] for index in self.residency.indices)


class Server:
    """Answers messages."""

    def __init__(self, channel: Channel, slots: Sequence[Slot], rungs: Rungs, governor: Governor) -> None:
        self._channel = channel
        self._slots = slots
        self._rungs = rungs
        self._governor = governor
        self._controls: dict[str, Callable[[Message], Message]] = {
            "policy": self._set_policy,
            "caps": self._set_caps,
            "status": self._status,
            "load": self._load,
            "unload": self._unload,
        }

    def run(self) -> None:
        """Answer until the daemon stops or is gone."""
        while True:
            self._settle()
            message = self._channel.receive()
            if message is None or message["op"] == "stop":
                return
            if message["op"] == "infer":
                self._channel.send(self._infer(message))
            else:
                self._channel.send(self._controls[message["op"]](message))

    def _settle(self) -> None:
        """Load and unload what is to be, as long as no request waits."""
        residency = self._rungs.residency
        while residency.unsettled and not self._channel.readable():
            try:
                residency.settle()
            except WorkerError as error:  # the file has gone bad or memory has run out: smaller rungs answer
                sys.stderr.write(f"a rung could not be loaded again: {error}\n")
                return
            self._governor.settle()

    def _infer(self, message: Message) -> Message:
        number = message["id"]
        started_ns = time.perf_counter_ns()
        queue_us = (started_ns - message["at"]) / 1e3
        if started_ns > message["expires"]:
            return {"id": number, "error": ("DEADLINE", f"given up after {queue_us / 1e3:.1f} ms in the queue")}
        governor = self._governor
        slo_us = message.get("slo", governor.slo_us)
        deadline_us = np.inf if slo_us is None else slo_us
        slack_us = deadline_us - queue_us
        limit_us = message.get("limit", np.inf)
        due_us = min(slack_us, limit_us - queue_us)
        pinned = message.get("rung")
        slot = self._slots[message["slot"]]
        if pinned and pinned in self._rungs.dismissed:
            return {"id": number, "error": ("RUNG_UNLOADED", pinned)}
        rung, switch = None, None
        try:
            if pinned:
                rung = self._rungs[pinned]
            else:
                rung, switch = governor.choose(deadline_us, queue_us, started_ns / 1e9, limit_us)
            wall_us, cpu_us = rung.run(slot.inputs, slot.outputs)
        except Exception as error:
            reason = "OUT_OF_MEMORY" if isinstance(error, MemoryError) else "MODULE_INVALID"
            words = f"rung {rung.name if rung else pinned} failed on this input: {error}"
            return {"id": number, "error": (reason, words[:_ERROR_CHARACTERS])}
        if not pinned:
            governor.observe(wall_us, cpu_us, slack_us, time.perf_counter_ns() / 1e9)
        reply = {
            "id": number,
            "rung": rung.name,
            "wall": wall_us,
            "cpu": cpu_us,
            "queue": queue_us,
            "missed": None if due_us == np.inf else wall_us > due_us,
            "current": governor.live.name,
        }
        if switch is not None:
            reply["switch"] = asdict(note(switch, governor.last_switch_ns))
        if not pinned and governor.notice is not None:
            reply["notice"] = asdict(governor.notice)
        return reply

    def _set_policy(self, message: Message) -> Message:
        try:
            self._governor.set_policy(message["policy"], message["slo"])
        except ValueError as error:
            return {"refused": str(error)}
        return {"current": self._governor.live.name}

    def _set_caps(self, message: Message) -> Message:
        notice = self._governor.set_caps(message["readings"], time.perf_counter_ns() / 1e9)
        return {} if notice is None else {"notice": asdict(notice)}

    def _load(self, message: Message) -> Message:
        """Have a rung in memory; without one, return to the memory plan."""
        residency, rung = self._rungs.residency, message["rung"]
        try:
            if rung is None:
                residency.restore()
            else:
                residency.admit(self._rungs.index(rung))
        except ValueError as error:
            return {"error": ("RUNG_TOO_LARGE", f"{rung}: {error}")}
        except WorkerError as error:
            return {"error": (error.reason, error.message[:_ERROR_CHARACTERS])}
        self._governor.settle()
        return {"unloaded": self._rungs.dismissed}

    def _unload(self, message: Message) -> Message:
        rung = message["rung"]
        try:
            self._rungs.residency.dismiss(self._rungs.index(rung))
        except ValueError as error:
            return {"error": ("RUNG_IN_USE", f"{rung}: {error}")}
        return {"unloaded": self._rungs.dismissed}

    def _status(self, _: Message) -> Message:
        return {
            "rss_bytes": _resident_bytes(),
            "resident": self._rungs.resident,
            "loads": self._rungs.residency.loads,
            "switches_timed": self._governor.switches,
            "switch_p50_ns": self._governor.switch_quantile_ns(0.5),
            "switch_p99_ns": self._governor.switch_quantile_ns(0.99),
        }


def _load(plan: ServePlan) -> tuple[Residency[ResidentRung], tuple[RungCheck, ...], list[str]]:
    """Load and verify every rung once, keep those that fit, and name all in the order of the policies' indices."""
    loader = RungLoader(plan)
    by_name = {rung.name: rung for rung in plan.rungs}
    ladder = make_ladder(RungProfile(rung.name, rung.accuracy, rung.cpu_us) for rung in plan.rungs)
    ordered = [by_name[profile.name] for profile in ladder]
    sizes_bytes = [rung.memory_bytes for rung in ordered]
    loaded: dict[int, ResidentRung] = {}
    checks = []
    first = needed(len(ordered) - 1, len(ordered))
    # What starts out in memory comes last: never more than one rung beyond it at a time.
    for index in sorted(range(len(ordered)), key=lambda index: (index in first, -index)):
        rung, check = loader.verify(ordered[index])
        checks.append(check)
        spare_bytes = sum(sizes_bytes[each] for each in {*loaded, *first, index})
        if index in first or plan.memory_bytes is None or spare_bytes <= plan.memory_bytes:
            loaded[index] = rung
        else:
            rung.close()
    process_memory.settle()
    for rung in loaded.values():
        loader.warm(rung)
    residency = Residency(sizes_bytes, lambda index: loader.load(ordered[index]), plan.memory_bytes, loaded)
    by_rung = {check.rung: check for check in checks}
    return residency, tuple(by_rung[rung.name] for rung in plan.rungs), [rung.name for rung in ordered]


def _govern(plan: ServePlan, residency: Residency[ResidentRung]) -> Governor:
    try:
        return Governor(plan, residency)
    except ValueError as error:
        raise WorkerError("POLICY_UNKNOWN", str(error)) from error


def _map_slots(descriptor: int, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> list[Slot]:
    layout = Layout.of(inputs, outputs)
    try:
        memory = mmap.mmap(descriptor, layout.size_bytes)
    except OSError as error:
        raise WorkerError("OUT_OF_MEMORY", f"no room for {layout.size_bytes} bytes of tensors: {error}") from error
    finally:
        os.close(descriptor)

    def views(slot: int, specs: Sequence[TensorSpec], spans: Sequence[tuple[int, int]]) -> list[Array]:
        base = slot * layout.slot_bytes
        return [_view(memory, base + start, spec) for spec, (start, _) in zip(specs, spans, strict=True)]

    return [
        Slot(views(slot, inputs, layout.inputs), views(slot, outputs, layout.outputs)) for slot in range(layout.slots)
    ]


def _view(memory: mmap.mmap, start: int, spec: TensorSpec) -> Array:
    dtype: Any = np.dtype(DATATYPES[spec.datatype][0])
    count = spec.size_bytes // dtype.itemsize
    return np.frombuffer(memory, dtype, count, start).reshape(spec.shape)


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * mmap.PAGESIZE
