"""One model's life on this device: executes what the state machine decides.

The machine's step and its record on disk happen under a lock; workers load outside it, so a newer request is never kept
waiting behind an older one's load: it supersedes it, and the machine ignores the outcome of the older one.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from tailorbird_agent.deploy import machine
from tailorbird_agent.deploy.machine import Action, Deployment, Phase
from tailorbird_agent.deploy.manifest import Manifest
from tailorbird_agent.deploy.plan import DEFAULT_POLICY, check_policy, serve_plan, worker_bytes
from tailorbird_agent.deploy.pointer import Pointer, Serving
from tailorbird_agent.deploy.trial import Pace, Trial
from tailorbird_agent.errors import AgentError, BundleError, RequestError, ServingError, StoreError, reason_of
from tailorbird_agent.events import EventLog
from tailorbird_agent.ledger import Ledger
from tailorbird_agent.runtimes import memory
from tailorbird_agent.store.blobs import Blobs
from tailorbird_agent.worker.failure import WorkerError
from tailorbird_agent.worker.plan import Answer
from tailorbird_agent.worker.serving import ServingStats, ServingWorker

logger = logging.getLogger(__name__)

FIRST_BACKOFF_S = 0.1
#: Less than a request waits for a worker: however often it died, requests that can wait are answered.
MAX_BACKOFF_S = 4.0
#: A worker that lived this long starts the back-off anew.
HEALTHY_S = 60.0
#: A worker on trial that shows no progress for this long, or for fifty times its slowest rung, hangs.
TRIAL_HANG_S = 3.0
#: How long a gap is said to last while no load of this model has been timed.
FIRST_GAP_S = 2.0


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a runner works with. spawn runs a task for the life of the daemon; parse reads a manifest's bytes.

    model_memory_bytes: what the rungs of one model may take in memory; has_room: whether a worker that takes so many
    bytes fits beside those that run.
    """

    blobs: Blobs
    ledger: Ledger
    events: EventLog
    parse: Callable[[bytes], Manifest]
    spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]
    worker_timeout_s: float
    drain_timeout_s: float
    model_memory_bytes: int
    has_room: Callable[[int], bool]


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """What is recorded of a model and what its worker says."""

    deployment: Deployment
    serving: Serving | None
    stats: ServingStats | None
    policy: str
    slo_us: float | None


class ModelRunner:
    """Executes one model's deployment. `pointer` is what requests read."""

    def __init__(self, model: str, around: Surroundings) -> None:
        self.model = model
        self.pointer = Pointer()
        self._around = around
        self._lock = asyncio.Lock()
        self._live = around.ledger.get(model)
        self._deaths = 0
        self._load_s = FIRST_GAP_S
        self._pace: tuple[Serving, Pace] | None = None
        self._trial: tuple[Serving, Trial] | None = None

    @property
    def deployment(self) -> Deployment:
        """Where the model stands."""
        return self._live

    def status(self) -> ModelStatus:
        """A snapshot for people and hosts."""
        serving = self.pointer.current
        manifest = serving.manifest if serving else None
        return ModelStatus(
            self._live,
            serving,
            serving.worker.stats if serving else None,
            self._policy(manifest) if manifest else self._live.policy or DEFAULT_POLICY,
            self._slo_us(manifest),
        )

    async def stage(self, bundle: str, expected: int | None) -> None:
        """Record a verified bundle.

        Raises:
            BundleError: GENERATION_CONFLICT.
        """
        before = self._live
        if (await self._apply(machine.Stage(bundle, expected)))[0] != before:
            self._note("staged", f"bundle {bundle[:12]} is verified", bundle=bundle)

    async def activate(self, bundle: str, expected: int | None, *, commit: bool, trial_timeout_s: float | None) -> None:
        """Load, warm and check a staged bundle in a new worker, move requests to it, drain the old one.

        Raises:
            BundleError: GENERATION_CONFLICT (also when a newer request superseded this one), NOT_STAGED, and what the
                worker says: GOLDEN_MISMATCH, MODULE_INVALID, RUNTIME_MISSING.
            ServingError: WORKER_DIED, WORKER_TIMEOUT, OUT_OF_MEMORY, while loading.
        """
        now, action = await self._apply(machine.Activate(bundle, expected))
        if action is Action.NOTHING:
            if commit and now.phase is Phase.TRIAL:
                await self.commit(None)
            return
        try:
            now = await self._load_and_serve(bundle, now.loading_since, commit=commit)
        except Exception as error:
            await self._apply(machine.LoadFailed(now.loading_since), recorded=False)
            self._note("load_failed", str(error), bundle=bundle, reason=reason_of(error), serving=self._live.active)
            raise
        self._note(
            "activated", f"bundle {bundle[:12]} serves ({now.phase.value})", bundle=bundle, previous=now.previous
        )
        if commit:
            self._note("committed", f"bundle {bundle[:12]} survives a restart", bundle=bundle)
        elif trial_timeout_s is not None:
            self._around.spawn(self._expire_trial(now.active_since, trial_timeout_s))

    async def commit(self, expected: int | None) -> None:
        """End the trial.

        Raises:
            BundleError: GENERATION_CONFLICT, NO_TRIAL.
        """
        before = self._live
        now, _ = await self._apply(machine.Commit(expected))
        self._trial = None
        if now != before:
            self._note("committed", f"bundle {now.active[:12]} survives a restart", bundle=now.active)

    async def roll_back(self, expected: int | None) -> None:
        """Return to the previous bundle; the present one serves until the previous one is loaded.

        Returns when it is, or when the first attempts took as long as a load may; further ones go on.

        Raises:
            BundleError: GENERATION_CONFLICT, NO_PREVIOUS.
        """
        left = self._live.active
        now, _ = await self._apply(machine.RollBack(expected))
        self._note_rollback(left, now, "asked for")
        returning = self._around.spawn(self._start_active(now.active_since, delay_s=0.0))
        await asyncio.wait({returning}, timeout=self._around.worker_timeout_s)

    def answered(self, serving: Serving, answer: Answer) -> None:
        """Take note of how long a worker took; a bundle on trial that is too slow gives way."""
        if self._pace is None or self._pace[0] is not serving:
            return
        self._pace[1].note(answer.rung, answer.wall_us, answer.cpu_us)
        if self._trial is not None and self._trial[0] is serving:
            self._judge(serving, self._trial[1].answered())

    def failed(self, serving: Serving, reason: str) -> None:
        """Take note of a request that a worker failed; a bundle on trial that fails too many gives way."""
        if self._trial is not None and self._trial[0] is serving:
            self._judge(serving, self._trial[1].failed(reason))

    def _judge(self, serving: Serving, cause: str) -> None:
        if cause:
            self._trial = None
            self._around.spawn(self._end_trial(machine.TrialFailed(serving.since), cause))

    async def choose_policy(self, policy: str, slo_us: float | None) -> None:
        """Change the adaptation policy, the deadline, or both.

        Raises:
            RequestError: POLICY_UNKNOWN.
            ServingError: the worker died meanwhile.
        """
        serving = self.pointer.current
        manifest = serving.manifest if serving else await self._any_manifest()
        wanted = policy or self._live.policy or DEFAULT_POLICY
        if manifest is not None:
            check_policy(wanted, manifest)
        now, _ = await self._apply(machine.ChoosePolicy(policy or None, slo_us))
        if serving is not None:
            try:
                await serving.worker.set_policy(self._policy(serving.manifest), self._slo_us(serving.manifest))
            except ValueError as error:
                raise RequestError("POLICY_UNKNOWN", f"{error}.") from None
            except WorkerError as error:
                raise ServingError(error.reason, error.message, retry_after_s=1.0) from None
        deadline = "none" if now.slo_us is None else f"{now.slo_us:g}"
        self._note("policy", f"policy {wanted}, deadline {deadline} us", policy=wanted, slo_us=deadline)

    async def resume(self) -> None:
        """After a restart of the agent: come back to what was committed."""
        left = self._live.active
        now, action = await self._apply(machine.Restarted(), recorded=False)
        if now.phase is Phase.ROLLED_BACK and left != now.active:
            self._note_rollback(left, now, "the agent restarted during the trial")
        if action is Action.RETURN:
            self._around.spawn(self._start_active(now.active_since, delay_s=0.0))

    async def shut_down(self) -> None:
        """Let requests in flight finish, then end the worker."""
        serving = self.pointer.move(None)
        if serving is not None:
            await self._retire(serving)

    async def _apply(self, event: machine.Event, *, recorded: bool = True) -> tuple[Deployment, Action]:
        """One step of the machine, on disk before anybody acts on it.

        recorded False: what happened by itself (a death, a deadline) is acted on even when the disk is full or fails.
        What is on disk then still says "trial", and a restart comes to the same end.
        """
        async with self._lock:
            now, action = machine.step(self._live, event)
            if now != self._live:
                try:
                    await asyncio.to_thread(self._around.ledger.put, now)
                except (OSError, StoreError) as error:
                    if recorded:
                        raise
                    logger.warning("model %s: %s", self.model, error)
                self._live = now
            return now, action

    async def _load_and_serve(self, bundle: str, generation: int, *, commit: bool) -> Deployment:
        """Move requests to a bundle once it is loaded and recorded; until then nothing has changed.

        Where two do not fit, the one that serves goes first, and comes back when the new one does not come up.
        """
        made_room = await self._make_room(bundle)
        try:
            return await self._load_beside(bundle, generation, commit=commit)
        except BaseException:
            if made_room and self.pointer.current is None:
                self._around.spawn(self._start_active(self._live.active_since, delay_s=0.0))
            raise

    async def _make_room(self, bundle: str) -> bool:
        """End the worker that serves if the new one does not fit beside it, and announce the gap; whether it did."""
        serving = self.pointer.current
        if serving is None:
            return False
        manifest = await asyncio.to_thread(self._verified, bundle)
        needed_bytes = worker_bytes(manifest, self._around.model_memory_bytes)
        if self._around.has_room(needed_bytes):
            return False
        seconds = self._load_s
        self._note(
            "gap",
            f"bundle {serving.bundle[:12]} stops before {bundle[:12]} is loaded: there is no room for both; "
            f"expected to last {seconds:.1f} s",
            expected_s=f"{seconds:.3f}",
            needed_bytes=str(needed_bytes),
            bundle=bundle,
        )
        self.pointer.open_gap(seconds)
        await self._retire(serving)
        return True

    async def _load_beside(self, bundle: str, generation: int, *, commit: bool) -> Deployment:
        """Load, record, and move requests."""
        worker, manifest = await self._load(bundle, on_trial=not commit)
        try:
            now, action = await self._apply(machine.Loaded(generation))
            if action is Action.SERVE:
                now, _ = await self._apply(machine.Serve(generation, commit=commit))
        except BaseException:
            await worker.stop()
            raise
        if now.active != bundle or now.loading:
            await worker.stop()
            raise BundleError(
                "GENERATION_CONFLICT",
                f"A newer request superseded the activation of {bundle[:12]}.",
                generation=str(now.generation),
            )
        self._install(Serving(worker, bundle, manifest, now.active_since))
        return now

    async def _load(self, bundle: str, *, on_trial: bool) -> tuple[ServingWorker, Manifest]:
        """A worker that holds a bundle, warm and checked. Blobs are read again first: disks rot.

        on_trial: it is given less time to show progress.
        How long it took is what the next gap is announced with.

        Raises:
            StoreError: BLOB_MISSING, BLOB_CORRUPT.
            BundleError, ServingError: what the worker says.
        """
        began = time.monotonic()
        manifest = await asyncio.to_thread(self._verified, bundle)
        policy, slo_us = self._policy(manifest), self._slo_us(manifest)
        try:
            plan = serve_plan(
                manifest,
                self._around.blobs,
                policy=policy,
                slo_us=slo_us,
                memory_bytes=self._around.model_memory_bytes,
            )
            slowest_s = max(rung.cpu_us for rung in plan.rungs) / 1e6
            hang_timeout_s = max(TRIAL_HANG_S, 50.0 * slowest_s) if on_trial else None
            worker = await ServingWorker.start(
                plan, timeout_s=self._around.worker_timeout_s, hang_timeout_s=hang_timeout_s
            )
            # Somebody may have chosen another while it loaded.
            while (policy, slo_us) != (wanted := (self._policy(manifest), self._slo_us(manifest))):
                policy, slo_us = wanted
                await worker.set_policy(policy, slo_us)
        except WorkerError as error:
            kind = ServingError if error.reason.startswith(("WORKER", "OUT")) else BundleError
            raise kind(error.reason, f"{error.message}.") from None
        except OSError as error:
            raise ServingError("OUT_OF_MEMORY", f"No process could be started: {error.strerror}.") from None
        self._load_s = time.monotonic() - began
        return worker, manifest

    def _verified(self, bundle: str) -> Manifest:
        blobs = self._around.blobs
        blobs.verify(bundle)
        manifest = self._around.parse(blobs.path(bundle).read_bytes())
        for digest in sorted({each.sha256 for each in manifest.blobs()}):
            blobs.verify(digest)
        return manifest

    async def _start_active(self, since: int, *, delay_s: float) -> None:
        """Get the active bundle to serve, however often it takes, unless something newer becomes active."""
        while self._live.active_since == since and self._live.active:
            await asyncio.sleep(delay_s)
            bundle = self._live.active
            try:
                worker, manifest = await self._load(bundle, on_trial=self._live.phase is Phase.TRIAL)
            except Exception as error:  # whatever it was, giving up would leave the model dead for good
                if not isinstance(error, AgentError):
                    logger.exception("model %s: bundle %s does not load", self.model, bundle[:12])
                self._deaths += 1
                delay_s = _backoff_s(self._deaths)
                self._note("load_failed", f"{error} Next attempt in {delay_s:g} s.", reason=reason_of(error))
                # A trial that does not even load again has died again.
                now, action = await self._apply(machine.WorkerDied(since), recorded=False)
                if action in {Action.RETURN, Action.STOP}:
                    self._note_rollback(bundle, now, "it could not be loaded again")
                    since, delay_s = now.active_since, 0.0
                continue
            if self._live.active_since != since:
                await worker.stop()
                return
            self._install(Serving(worker, bundle, manifest, since))
            self._note("restored", f"bundle {bundle[:12]} serves again", bundle=bundle)
            return

    def _install(self, serving: Serving) -> None:
        """Move requests to a worker, watch it, and let the one before finish what it has."""
        excess_us = self._pace[1].excess_us() if self._pace is not None else None
        pace = Pace({rung.name: rung.cpu_us for rung in serving.manifest.rungs})
        self._pace = serving, pace
        self._trial = (serving, Trial(pace, excess_us)) if self._live.phase is Phase.TRIAL else None
        before = self.pointer.move(serving)
        self._around.spawn(self._watch(serving))
        self._around.spawn(asyncio.to_thread(memory.settle))  # after uploads and checks of large files
        if before is not None:
            self._around.spawn(self._retire(before))

    async def _retire(self, serving: Serving) -> None:
        try:
            await serving.worker.drain(self._around.drain_timeout_s)
        except WorkerError as error:
            logger.warning("model %s: %s", self.model, error.message)
        await serving.worker.stop()

    async def _watch(self, serving: Serving) -> None:
        """Act on the end of a worker, unless it was retired."""
        began = time.monotonic()
        status = await asyncio.shield(serving.worker.exited)
        if self.pointer.current is not serving:
            return
        self.pointer.move(None)
        self._deaths = 1 if time.monotonic() - began > HEALTHY_S else self._deaths + 1
        self._note(
            "worker_died",
            f"the worker of bundle {serving.bundle[:12]} ended with status {status}",
            status=str(status),
            pid=str(serving.worker.pid),
            bundle=serving.bundle,
        )
        hung = serving.worker.hung
        now, action = await self._apply(machine.WorkerDied(serving.since, hung), recorded=False)
        if action is Action.RETURN or action is Action.STOP:
            self._note_rollback(serving.bundle, now, "its worker hung" if hung else "its worker died again")
            self._deaths = 0
        if action is Action.RETURN or action is Action.RESTART:
            await self._start_active(now.active_since, delay_s=_backoff_s(self._deaths))

    async def _expire_trial(self, since: int, timeout_s: float) -> None:
        await asyncio.sleep(timeout_s)
        await self._end_trial(machine.TrialExpired(since), f"nobody committed it within {timeout_s:g} s")

    async def _end_trial(self, event: machine.Event, cause: str) -> None:
        """Roll back, unless the trial has ended meanwhile."""
        left = self._live.active
        now, action = await self._apply(event, recorded=False)
        if action is Action.NOTHING:
            return
        self._note_rollback(left, now, cause)
        if action is Action.RETURN:
            await self._start_active(now.active_since, delay_s=0.0)
        elif (serving := self.pointer.move(None)) is not None:
            await self._retire(serving)

    async def _any_manifest(self) -> Manifest | None:
        bundle = self._live.active or self._live.staged
        if not bundle:
            return None
        path = self._around.blobs.path(bundle)
        return self._around.parse(await asyncio.to_thread(path.read_bytes))

    def _policy(self, manifest: Manifest) -> str:
        """The policy chosen for the model; the default where this ladder lacks the rung it names."""
        chosen = self._live.policy or DEFAULT_POLICY
        try:
            check_policy(chosen, manifest)
        except RequestError:
            return DEFAULT_POLICY
        return chosen

    def _slo_us(self, manifest: Manifest | None) -> float | None:
        return self._live.slo_us or (manifest.slo_us if manifest else None)

    def _note_rollback(self, left: str, now: Deployment, cause: str) -> None:
        to = now.active[:12] or "nothing"
        self._note(
            "rolled_back", f"bundle {left[:12]} gave way to {to}: {cause}", bundle=left, to=now.active, cause=cause
        )

    def _note(self, kind: str, message: str, **details: str) -> None:
        self._around.events.append(kind, self.model, message, {"generation": str(self._live.generation), **details})


def _backoff_s(deaths: int) -> float:
    """At once after the first death, then doubling up to a few seconds."""
    return 0.0 if deaths <= 1 else min(FIRST_BACKOFF_S * 2 ** (deaths - 2), MAX_BACKOFF_S)
