"""Where a model stands on this device, as a pure function: state and event in, state and action out.

    ABSENT -> STAGED -> LOADED -> TRIAL -> COMMITTED      any failure -> ROLLED_BACK, with what was committed serving

Rules this module enforces:
1. The generation grows by one with every accepted change; a request based on another generation is refused, and the
   outcome of work that has been superseded (a load, a trial timer, a dead worker) is ignored: each names the generation
   under which it began.
2. Only a staged bundle can be loaded, and only a loaded one (its golden check passed) can serve.
3. `committed` is what a restart comes back to. A trial never becomes `previous`: rolling back lands on something that
   was committed, or on nothing.
4. A trial ends by commit, by time, by a second death of its worker or its first hang, by what its requests tell or by
   a restart; all but the first roll back.
5. A failed load changes nothing that serves.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import assert_never

from tailorbird_agent.errors import BundleError

TRIAL_CRASHES = 2


class Phase(StrEnum):
    """Where a model stands."""

    ABSENT = "absent"
    STAGED = "staged"
    LOADED = "loaded"
    TRIAL = "trial"
    COMMITTED = "committed"
    ROLLED_BACK = "rolled_back"


@dataclass(frozen=True, slots=True)
class Deployment:
    """One model. active: bundle that serves; previous: what rollback returns to; staged: verified and waiting.

    Bundles are manifest digests, "" for none. phase speaks of what serves, and of the newest bundle when nothing does;
    active_since and loading_since: generations under which `active` became active and `loading` began to load;
    crashes: deaths of the trial's worker; policy "" and slo_us None: as the bundle says.
    """

    model: str
    phase: Phase = Phase.ABSENT
    generation: int = 0
    active: str = ""
    previous: str = ""
    staged: str = ""
    loading: str = ""
    active_since: int = 0
    loading_since: int = 0
    crashes: int = 0
    policy: str = ""
    slo_us: float | None = None

    @property
    def committed(self) -> str:
        """What a restart comes back to."""
        return self.previous if self.phase is Phase.TRIAL else self.active

    @property
    def bundles(self) -> frozenset[str]:
        """Every bundle this deployment may still need."""
        return frozenset({self.active, self.previous, self.staged, self.loading}) - {""}


@dataclass(frozen=True, slots=True)
class Stage:
    """A verified bundle arrived."""

    bundle: str
    expected: int | None = None


@dataclass(frozen=True, slots=True)
class Activate:
    """Somebody wants a staged bundle to serve."""

    bundle: str
    expected: int | None = None


@dataclass(frozen=True, slots=True)
class Loaded:
    """The new worker passed its golden check. generation: the one Activate produced."""

    generation: int


@dataclass(frozen=True, slots=True)
class Serve:
    """Requests are about to move to the loaded worker. commit: skip the trial."""

    generation: int
    commit: bool = False


@dataclass(frozen=True, slots=True)
class LoadFailed:
    """The new worker did not load, or its answers are wrong."""

    generation: int


@dataclass(frozen=True, slots=True)
class Commit:
    """The trial was good."""

    expected: int | None = None


@dataclass(frozen=True, slots=True)
class RollBack:
    """Somebody wants the previous bundle back."""

    expected: int | None = None


@dataclass(frozen=True, slots=True)
class WorkerDied:
    """The serving worker ended by itself, or hung and was killed. generation: the one it was started under."""

    generation: int
    hung: bool = False


@dataclass(frozen=True, slots=True)
class TrialExpired:
    """Nobody committed in time. generation: the one the trial began under."""

    generation: int


@dataclass(frozen=True, slots=True)
class TrialFailed:
    """Requests tell that the bundle is slow or fails. generation: the one the trial began under."""

    generation: int


@dataclass(frozen=True, slots=True)
class ChoosePolicy:
    """Somebody wants another policy or deadline; None leaves it as it is."""

    policy: str | None = None
    slo_us: float | None = None


@dataclass(frozen=True, slots=True)
class Restarted:
    """The agent started and read this deployment from disk."""


Event = (
    Stage
    | Activate
    | Loaded
    | Serve
    | LoadFailed
    | Commit
    | RollBack
    | WorkerDied
    | TrialExpired
    | TrialFailed
    | ChoosePolicy
    | Restarted
)


class Action(StrEnum):
    """What the runner does next."""

    NOTHING = "nothing"
    LOAD = "load"  # start a worker for `loading`
    SERVE = "serve"  # move requests to the worker just loaded
    RESTART = "restart"  # start a worker for `active` again
    RETURN = "return"  # start a worker for `active`, which just changed back
    STOP = "stop"  # nothing serves any more


def step(now: Deployment, event: Event) -> tuple[Deployment, Action]:
    """The next state and what to do about it.

    Raises:
        BundleError: GENERATION_CONFLICT, NOT_STAGED, NO_TRIAL, NO_PREVIOUS.
    """
    match event:
        case Stage(bundle, expected):
            _check(now, expected)
            if bundle in {now.staged, now.active}:
                return now, Action.NOTHING
            phase = now.phase if now.active else Phase.STAGED
            return _next(now, staged=bundle, phase=phase), Action.NOTHING
        case Activate(bundle, expected):
            _check(now, expected)
            return _activate(now, bundle)
        case Loaded(generation):
            if not _loading(now, generation):
                return now, Action.NOTHING
            return (now if now.active else replace(now, phase=Phase.LOADED)), Action.SERVE
        case Serve(generation, commit):
            return (_serve(now, commit=commit) if _loading(now, generation) else now), Action.NOTHING
        case LoadFailed(generation):
            if not _loading(now, generation):
                return now, Action.NOTHING
            # A trial under way stays a trial: only the newcomer failed.
            phase = now.phase if now.phase is Phase.TRIAL else Phase.ROLLED_BACK
            return _next(now, loading="", phase=phase), Action.NOTHING
        case Commit(expected):
            _check(now, expected)
            if now.phase is Phase.COMMITTED:
                return now, Action.NOTHING
            if now.phase is not Phase.TRIAL:
                raise BundleError("NO_TRIAL", f'Model "{now.model}" is {now.phase.value}.')
            return _next(now, phase=Phase.COMMITTED, crashes=0), Action.NOTHING
        case RollBack(expected):
            _check(now, expected)
            if not now.previous:
                raise BundleError("NO_PREVIOUS", f'Model "{now.model}" is {now.phase.value}.')
            return _roll_back(now)
        case WorkerDied(generation, hung):
            return _worker_died(now, generation, hung=hung)
        case TrialExpired(generation) | TrialFailed(generation):
            expired = generation == now.active_since and now.phase is Phase.TRIAL
            return _roll_back(now) if expired else (now, Action.NOTHING)
        case ChoosePolicy(policy, slo_us):
            chosen = _next(now, policy=policy or now.policy, slo_us=now.slo_us if slo_us is None else slo_us)
            return chosen, Action.NOTHING
        case Restarted():
            if now.phase is Phase.TRIAL:
                return _roll_back(now)
            phase = Phase.STAGED if now.phase is Phase.LOADED else now.phase
            resumed = replace(now, loading="", crashes=0, phase=phase)
            return resumed, Action.RETURN if now.active else Action.NOTHING
        case _ as never:
            assert_never(never)


def _activate(now: Deployment, bundle: str) -> tuple[Deployment, Action]:
    if bundle == now.active and bundle:
        return replace(now, loading=""), Action.NOTHING
    if not bundle or bundle != now.staged:
        raise BundleError("NOT_STAGED", f'"{bundle[:12]}" of model "{now.model}".', staged=now.staged)
    phase = now.phase if now.active else Phase.STAGED
    return _next(now, loading=bundle, loading_since=now.generation + 1, phase=phase), Action.LOAD


def _loading(now: Deployment, generation: int) -> bool:
    return bool(now.loading) and generation == now.loading_since


def _serve(now: Deployment, *, commit: bool) -> Deployment:
    return _next(
        now,
        phase=Phase.COMMITTED if commit else Phase.TRIAL,
        active=now.loading,
        active_since=now.generation + 1,
        previous=now.committed,
        staged="" if now.staged == now.loading else now.staged,
        loading="",
        crashes=0,
    )


def _worker_died(now: Deployment, generation: int, *, hung: bool) -> tuple[Deployment, Action]:
    if not now.active or generation != now.active_since:
        return now, Action.NOTHING
    if now.phase is not Phase.TRIAL:
        return now, Action.RESTART
    crashes = now.crashes + 1
    if hung or crashes >= TRIAL_CRASHES:
        return _roll_back(now)
    return replace(now, crashes=crashes), Action.RESTART


def _roll_back(now: Deployment) -> tuple[Deployment, Action]:
    changed = _next(
        now,
        phase=Phase.ROLLED_BACK,
        active=now.previous,
        active_since=now.generation + 1,
        previous="",
        loading="",
        crashes=0,
    )
    return changed, Action.RETURN if changed.active else Action.STOP


def _check(now: Deployment, expected: int | None) -> None:
    if expected is not None and expected != now.generation:
        raise BundleError(
            "GENERATION_CONFLICT",
            f'Model "{now.model}" is at generation {now.generation}, the request expected {expected}.',
            generation=str(now.generation),
        )


def _next(now: Deployment, **changes: object) -> Deployment:
    return replace(now, generation=now.generation + 1, **changes)  # type: ignore[arg-type]
