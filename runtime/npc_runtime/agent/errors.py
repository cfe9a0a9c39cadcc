"""Everything that can be wrong with one adapter, as one closed list of reasons.

A reason is a word that users see in status, events and metrics, so it is a constant here and nowhere else. Whether
trying again can help is decided where the fault is found and travels with it: a permanent fault stops until the desired
entry changes, a transient one backs off.
"""

from __future__ import annotations

from enum import StrEnum

MESSAGE_LIMIT = 500
"""Characters of a message that reach a report; messages quote file contents of strangers."""


class Reason(StrEnum):
    """Why an adapter is not resident."""

    # where it comes from
    UNSUPPORTED_URI = "UnsupportedUri"
    ROOT_NOT_ALLOWED = "RootNotAllowed"
    NOT_FOUND = "NotFound"
    ACCESS_DENIED = "AccessDenied"
    CREDENTIALS_MISSING = "CredentialsMissing"
    SOURCE_UNAVAILABLE = "SourceUnavailable"
    SOURCE_CHANGED = "SourceChanged"
    REDIRECT_REFUSED = "RedirectRefused"
    # room for it
    TOO_LARGE = "TooLarge"
    TOO_MANY_FILES = "TooManyFiles"
    CACHE_FULL = "CacheFull"
    DISK_FULL = "DiskFull"
    DISK_ERROR = "DiskError"
    # its bytes
    DIGEST_MISMATCH = "DigestMismatch"
    UNSAFE_PATH = "UnsafePath"
    SYMLINK = "Symlink"
    FORBIDDEN_FILE = "ForbiddenFile"
    MISSING_FILE = "MissingFile"
    BAD_CONFIG = "BadConfig"
    UNSUPPORTED_FEATURE = "UnsupportedFeature"
    RANK_TOO_HIGH = "RankTooHigh"
    BAD_HEADER = "BadHeader"
    TRUNCATED = "Truncated"
    BAD_TENSOR = "BadTensor"
    NOT_FINITE = "NotFinite"
    BASE_MISMATCH = "BaseMismatch"
    # the engine
    NAME_CLASH = "NameClash"
    LOAD_FAILED = "LoadFailed"
    ENGINE_REFUSED = "EngineRefused"
    ENGINE_UNAUTHORIZED = "EngineUnauthorized"
    ENGINE_UNAVAILABLE = "EngineUnavailable"
    NOT_VISIBLE = "NotVisibleToEngine"
    PROBE_FAILED = "ProbeFailed"
    PROBE_TIMEOUT = "ProbeTimeout"
    PROBE_MISMATCH = "ProbeMismatch"
    BAD_PATTERN = "BadPattern"
    IDENTITY_LOST = "IdentityLost"
    # ourselves
    INTERNAL = "Internal"


class AdapterError(Exception):
    """A fault of one adapter; never of the agent. `permanent` means that the same desired entry can never succeed."""

    def __init__(self, reason: Reason, message: str, *, permanent: bool) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.message = message if len(message) <= MESSAGE_LIMIT else message[: MESSAGE_LIMIT - 1] + "…"
        self.permanent = permanent


def refused(reason: Reason, message: str) -> AdapterError:
    """A fault that only another digest, uri, credential or probe can mend."""
    return AdapterError(reason, message, permanent=True)


def retryable(reason: Reason, message: str) -> AdapterError:
    """A fault that may pass by itself."""
    return AdapterError(reason, message, permanent=False)
