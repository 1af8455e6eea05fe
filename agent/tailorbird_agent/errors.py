"""Every failure the agent reports, as one tree and one catalogue.

    AgentError                 reason, detail, metadata, retry_after_s
    +-- ConfigError            the agent cannot start as asked
    +-- RequestError           a request is malformed or asks for something unknown
    +-- LeaseError             the caller does not hold the device
    +-- StoreError             a blob is damaged, absent or does not fit
    +-- BundleError            a bundle cannot be staged, activated, committed or rolled back
    +-- ServingError           a worker process failed or cannot take the request

A reason is stable and machine-readable. The catalogue gives each one a canonical gRPC code, a sentence for people and
what to do about it; `detail` adds what was found this time. Nothing here knows gRPC: codes are names.
"""

from __future__ import annotations

from dataclasses import dataclass

ERROR_DOMAIN = "tailorbird.agent"


@dataclass(frozen=True, slots=True)
class Entry:
    """A row of the catalogue: canonical gRPC code name, public text, what to do."""

    code: str
    text: str
    fix: str


CATALOGUE: dict[str, Entry] = {
    "CONFIG_INVALID": Entry("FAILED_PRECONDITION", "The agent cannot start as configured.", "Correct the setting."),
    "LEASE_HELD": Entry(
        "RESOURCE_EXHAUSTED",
        "Somebody else holds this device.",
        "Wait for the holder to release it or for the lease to expire.",
    ),
    "LEASE_LOST": Entry(
        "FAILED_PRECONDITION",
        "The lease has ended; results measured after its end would not be yours alone.",
        "Acquire a new lease and repeat the call with its fencing token.",
    ),
    "LEASE_REQUIRED": Entry(
        "FAILED_PRECONDITION", "This call needs the device's lease.", "Call AcquireLease and pass its fencing token."
    ),
    "BLOB_CORRUPT": Entry(
        "DATA_LOSS",
        "The assembled blob does not have the digest it was announced with.",
        "The partial upload was discarded: send the blob again from offset 0.",
    ),
    "BLOB_OFFSET": Entry(
        "OUT_OF_RANGE",
        "The chunk does not continue where the blob ends.",
        "Ask StatBlobs for the offset and resume there.",
    ),
    "BLOB_TOO_LARGE": Entry(
        "INVALID_ARGUMENT",
        "The blob or chunk is larger than announced or allowed.",
        "Announce the true size and send chunks of at most 256 KiB.",
    ),
    "BLOB_MISSING": Entry("NOT_FOUND", "A blob the request names is not on this device.", "Upload it and try again."),
    "DISK_FULL": Entry(
        "RESOURCE_EXHAUSTED",
        "The blob does not fit on this device.",
        "Free space on the device, raise the agent's quota, or push a smaller bundle.",
    ),
    "MANIFEST_INVALID": Entry(
        "INVALID_ARGUMENT", "The manifest is not a valid tailorbird.manifest/1.", "Pack the bundle again."
    ),
    "INCOMPATIBLE_TRIPLE": Entry(
        "FAILED_PRECONDITION",
        "The bundle was built for another kind of machine.",
        "Compile for the target on this device's card.",
    ),
    "INCOMPATIBLE_LIBC": Entry(
        "FAILED_PRECONDITION", "The bundle needs a newer C library.", "Build against the libc on this device's card."
    ),
    "INCOMPATIBLE_ISA": Entry(
        "FAILED_PRECONDITION",
        "The bundle uses CPU features this device lacks.",
        "Compile for the features on this device's card.",
    ),
    "RUNTIME_MISSING": Entry(
        "FAILED_PRECONDITION",
        "A runtime the bundle needs is neither installed nor supplied.",
        "Install the runtime's extra on the device, or ship the runtime library with the bundle.",
    ),
    "AGENT_TOO_OLD": Entry("FAILED_PRECONDITION", "The bundle needs a newer agent.", "Update the agent on the device."),
    "NOT_STAGED": Entry("FAILED_PRECONDITION", "The bundle is not staged.", "Call StageBundle first."),
    "GOLDEN_MISMATCH": Entry(
        "FAILED_PRECONDITION",
        "The bundle's answers on this device differ from its golden outputs.",
        "What served before still serves. Rebuild the rung; check precision and tolerance.",
    ),
    "MODULE_INVALID": Entry(
        "FAILED_PRECONDITION", "A module of the bundle cannot be loaded.", "Rebuild the rung for this device."
    ),
    "WORKER_DIED": Entry(
        "UNAVAILABLE", "The worker process ended before it answered.", "Retry; the agent restarts the worker."
    ),
    "WORKER_TIMEOUT": Entry(
        "DEADLINE_EXCEEDED", "The worker process did not answer in time.", "Raise the timeout or use a smaller rung."
    ),
    "WORKER_BUSY": Entry("RESOURCE_EXHAUSTED", "The worker's queue is full.", "Retry later, or send fewer at a time."),
    "REPLACING": Entry(
        "UNAVAILABLE", "The model is being replaced; this device has no room for two at once.", "Retry in a moment."
    ),
    "STOPPING": Entry("UNAVAILABLE", "The agent is stopping.", "Retry when it runs again."),
    "DEADLINE": Entry("DEADLINE_EXCEEDED", "The deadline passed before an answer was ready.", "Raise the deadline."),
    "OUT_OF_MEMORY": Entry(
        "RESOURCE_EXHAUSTED", "The worker process ran out of memory.", "Deploy fewer or smaller rungs."
    ),
    "GENERATION_CONFLICT": Entry(
        "ABORTED",
        "The deployment changed since the generation this request was based on.",
        "Read the deployment again, decide again, and retry with its generation.",
    ),
    "REQUEST_ID_REUSED": Entry(
        "INVALID_ARGUMENT", "This request_id was used for a different request.", "Use a fresh request_id per request."
    ),
    "NO_PREVIOUS": Entry("FAILED_PRECONDITION", "There is no previous bundle to return to.", "Deploy one instead."),
    "NO_TRIAL": Entry("FAILED_PRECONDITION", "There is no trial to commit.", "Activate a staged bundle first."),
    "MODEL_NOT_FOUND": Entry("NOT_FOUND", "No such model on this device.", "Deploy it, or correct the name."),
    "RUNG_NOT_FOUND": Entry(
        "NOT_FOUND", "The serving bundle has no such rung.", 'Leave model_version empty, or name a rung such as "r0".'
    ),
    "RUNG_IN_USE": Entry(
        "FAILED_PRECONDITION",
        "What answers requests cannot be unloaded.",
        "Unload another rung; to let go of this one, choose another policy or deploy another bundle.",
    ),
    "RUNG_TOO_LARGE": Entry(
        "RESOURCE_EXHAUSTED",
        "The rung does not fit in the memory that this model may take.",
        "Unload another rung that was loaded, or raise the agent's --model-memory-bytes.",
    ),
    "RUNG_UNLOADED": Entry(
        "FAILED_PRECONDITION",
        "That rung was unloaded on request.",
        "Load it again, or leave model_version empty.",
    ),
    "LOAD_UNVERIFIED": Entry(
        "INVALID_ARGUMENT",
        "Only rungs that came with a verified bundle can be loaded, as they are.",
        "Deploy a bundle through the control socket; then load MODEL/RUNG without parameters.",
    ),
    "INPUT_INVALID": Entry("INVALID_ARGUMENT", "The request does not fit.", "Correct the request."),
    "REGION_INVALID": Entry(
        "INVALID_ARGUMENT",
        "The shared-memory region cannot be used.",
        "Create it as large as the tensors it holds, register it, and keep it until the answer has come.",
    ),
    "REGION_PRIVATE": Entry(
        "PERMISSION_DENIED",
        "Not everybody who can connect to this socket may use that shared-memory object, so the agent will not either.",
        "Keep the socket's folder to the agent's user (chmod 700) and create the object as that user, or give the "
        "object the socket's group and mode 0660.",
    ),
    "REGION_REMOTE": Entry(
        "PERMISSION_DENIED",
        "Shared memory is for applications on this device that connect to the Unix socket.",
        "Connect to the Unix socket, or send the tensors in the request.",
    ),
    "REGION_EXISTS": Entry(
        "ALREADY_EXISTS", "Another shared-memory region has this name.", "Unregister it first, or choose another name."
    ),
    "REGION_NOT_FOUND": Entry(
        "NOT_FOUND", "No such shared-memory region is registered.", "Register it first; a restarted agent knows none."
    ),
    "REGION_LIMIT": Entry(
        "RESOURCE_EXHAUSTED", "No more shared-memory regions can be registered.", "Unregister those you do not need."
    ),
    "POLICY_UNKNOWN": Entry("INVALID_ARGUMENT", "No such adaptation policy.", "Choose one that GetPolicy lists."),
    "PERMISSION_DENIED": Entry(
        "PERMISSION_DENIED",
        "This connection may not call this method.",
        "Use the control socket as the user that runs the agent.",
    ),
    "UNIMPLEMENTED_HERE": Entry("UNIMPLEMENTED", "This device cannot do that.", "Use another device."),
    "INTERNAL": Entry(
        "INTERNAL", "The agent made a mistake.", "Look up the incident id in the agent's log and report it."
    ),
}


class AgentError(Exception):
    """Base of all errors the agent reports; `reason` is a row of the catalogue.

    detail: what was found this time; metadata: facts for machines; retry_after_s: when trying again makes sense.
    """

    def __init__(self, reason: str, detail: str = "", *, retry_after_s: float | None = None, **metadata: str) -> None:
        self.entry = CATALOGUE[reason]
        self.reason = reason
        self.detail = detail
        self.metadata = metadata
        self.retry_after_s = retry_after_s
        super().__init__(f"{self.entry.text} {detail}".rstrip())


def reason_of(error: Exception) -> str:
    """The reason an error has, INTERNAL for one that is not of this tree."""
    return error.reason if isinstance(error, AgentError) else "INTERNAL"


class ConfigError(AgentError):
    """The agent cannot start as asked: `what` names the setting, `fix` says how to get what was wanted."""

    def __init__(self, what: str, *, fix: str) -> None:
        super().__init__("CONFIG_INVALID", what)
        self.what = what
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.what}\nfix: {self.fix}"


class RequestError(AgentError):
    """A request is malformed or asks for something unknown."""


class LeaseError(AgentError):
    """The caller does not hold the device."""


class StoreError(AgentError):
    """A blob is damaged, absent or does not fit."""


class BundleError(AgentError):
    """A bundle cannot be staged, activated, committed or rolled back."""


class ServingError(AgentError):
    """A worker process failed or cannot take the request."""
