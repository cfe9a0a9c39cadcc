"""What leaves the cluster in a dump, without a secret in it: by structure, by known value, and by the look of it.

Three nets, because each has holes of its own: structure does not see logs, known values are only those the caller may
read, and patterns know only what secrets usually look like.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping
from typing import Any

GONE = "(removed)"
SHORTEST = 6
"""Characters of a known value that is looked for: shorter ones would blacken ordinary words."""

_KEPT_ANNOTATIONS = ("npcfleet.dev/", "deployment.kubernetes.io/", "app.kubernetes.io/", "helm.sh/", "meta.helm.sh/")
"""Annotations whose values are known to be no secrets; of all others only the name is kept."""

_PATTERNS: tuple[re.Pattern[str], ...] = (
    re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL),
    re.compile(r"(?i)(\b(?:bearer|basic)\s+)[A-Za-z0-9._~+/=-]{6,}"),
    re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]+)?"),
    re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{12,}\b"),
    re.compile(r"\b(?:hf|sk|ghp|gho|glpat|xox[abp])[_-][A-Za-z0-9_-]{10,}"),
    re.compile(
        r"(?i)(?<![a-z0-9_.-])(?!Secret(?:NotFound|Made|Rotated)\b|CredentialsMissing\b)([\"']?[a-z0-9_.-]*(?:password|passwd|secret|token|api[_-]?key|access[_-]?key|credential|signature)"
        r"[a-z0-9_.-]*[\"']?\s*[=:]\s*[\"']?)(?!\(removed\))[^\s\"',;&}\]]{4,}"
    ),
    re.compile(r"(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"),
)
_SECRET_KEY = re.compile(r"(?i)(password|passwd|token|api[_-]?key|access[_-]?key|credential|signature)")
_SECRET_FLAG = re.compile(r"(?i)--?[a-z0-9-]*(password|passwd|token|key|secret|credential)[a-z0-9-]*")
"""A flag whose value follows as an argument of its own."""
_KINDS_OF_SECRETS = frozenset({"Secret", "SecretList"})


def known_values(secrets: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """Every value of these Secrets as it may appear in text: plain, line by line, and in base64."""
    found: set[str] = set()
    for secret in secrets:
        for encoded in (secret.get("data") or {}).values():
            if not isinstance(encoded, str):
                continue
            found.add(encoded)
            try:
                plain = base64.b64decode(encoded, validate=True).decode()
            except ValueError:  # bytes that are no text cannot be in a log as they are
                continue
            found |= {plain.strip(), *(line.strip() for line in plain.splitlines())}
    return frozenset(value for value in found if len(value) >= SHORTEST)


class Redactor:
    """Takes secrets out of text and objects. `values` are those known to be secret."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        # The longest first: a value may be part of another.
        ordered = sorted({value for value in values if len(value) >= SHORTEST}, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, ordered))) if ordered else None

    def text(self, text: str) -> str:
        """`text` without known values and without what looks like a secret."""
        if self._known is not None:
            text = self._known.sub(GONE, text)
        for pattern in _PATTERNS:
            text = pattern.sub(lambda match: (match.group(1) if match.re.groups else "") + GONE, text)
        return text

    def object(self, raw: Any) -> Any:
        """An API object without environment values, foreign annotations, managed fields and Secret data."""
        if isinstance(raw, Mapping):
            if raw.get("kind") in _KINDS_OF_SECRETS:
                return {"kind": raw.get("kind"), "removed": True}
            return {str(key): self._field(str(key), value) for key, value in raw.items() if key != "managedFields"}
        if isinstance(raw, list | tuple):
            return [
                GONE if index and _is_secret_flag(raw[index - 1]) else self.object(one) for index, one in enumerate(raw)
            ]
        return self.text(raw) if isinstance(raw, str) else raw

    def _field(self, key: str, value: Any) -> Any:
        if key == "annotations" and isinstance(value, Mapping):
            return {
                str(name): self.text(str(said)) if str(name).startswith(_KEPT_ANNOTATIONS) else GONE
                for name, said in value.items()
            }
        if key == "env" and isinstance(value, list):
            return [_variable(one) for one in value]
        if key in ("data", "stringData", "binaryData") and isinstance(value, Mapping):
            return dict.fromkeys(map(str, value), GONE)
        if _SECRET_KEY.search(key) and isinstance(value, str) and value:
            return GONE
        return self.object(value)


def _is_secret_flag(one: Any) -> bool:
    return isinstance(one, str) and _SECRET_FLAG.fullmatch(one) is not None


def _variable(one: Any) -> Any:
    """A variable by its name, and by its reference where it has one; never its value."""
    if not isinstance(one, Mapping):
        return GONE
    kept = {key: one[key] for key in ("name", "valueFrom") if key in one}
    return {**kept, "value": GONE} if "value" in one else kept
