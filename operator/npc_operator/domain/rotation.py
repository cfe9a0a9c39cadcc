"""What the two Secrets of a namespace must hold next: made once, renewed before they expire, rotated once per new
annotation value.

No rotation may break a line that is being spoken. So nothing is replaced at once: the old token stays accepted, the old
authority stays trusted, the old engine key stays known until no pod was started with it. Kubelet brings a changed
Secret into pods only after a while, which is why two rotations of the same kind keep a distance. The randomness itself
is made elsewhere; here is only decided what is needed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pydantic import SecretStr

from npc_operator.api import names
from npc_operator.domain.facts import Region
from npc_runtime.wire import EngineKey

SETTLE_SECONDS = 180.0
"""Between two rotations of a kind: kubelet's sync period (60 s) plus the lifetime of its Secret cache, with a margin.
"""
RENEW_BEFORE_SECONDS = 30 * 86400.0
"""A certificate is renewed this long before it ends."""

TOKEN, TOKEN_PREVIOUS = "token", "token-previous"
CURRENT = "current"
TOKEN_KIND, CERTIFICATE_KIND, ENGINE_KEY_KIND = "token", "certificate", "engine-key"
ANNOTATIONS = {
    TOKEN_KIND: names.ANNOTATION_ROTATE_TOKEN,
    CERTIFICATE_KIND: names.ANNOTATION_ROTATE_CERTIFICATE,
    ENGINE_KEY_KIND: names.ANNOTATION_ROTATE_ENGINE_KEY,
}


@dataclass(frozen=True, slots=True)
class Handled:
    """The last annotation value acted on, and when anything of the kind was last made (Unix seconds)."""

    value: str = ""
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Need:
    """One thing to make anew, and why."""

    kind: str
    first: bool
    """True: there is none yet, or what is there cannot be used."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to make now, and when to look again (seconds; None: nothing is pending)."""

    needs: tuple[Need, ...] = ()
    look_again: float | None = None
    handled: Mapping[str, Handled] = field(default_factory=dict)


def parse_handled(text: str) -> dict[str, Handled]:
    """The note on a Secret of what was acted on; what cannot be read counts as nothing."""
    try:
        fields = json.loads(text) if text else {}
        return {kind: Handled(str(entry["value"]), float(entry["at"])) for kind, entry in fields.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def write_handled(handled: Mapping[str, Handled]) -> str:
    fields = {kind: {"value": entry.value, "at": int(entry.at)} for kind, entry in sorted(handled.items())}
    return json.dumps(fields, separators=(",", ":"))


def decide_rotation(
    *,
    kinds: Iterable[str],
    usable: Mapping[str, bool],
    expires: Mapping[str, float],
    region: Region | None,
    handled: Mapping[str, Handled],
    now: float,
) -> Verdict:
    """Which kinds of one Secret to make anew. `usable`: whether what is there can be used at all; `expires`: Unix
    seconds, where it does.
    """
    needs: list[Need] = []
    after: list[float] = []
    next_handled = dict(handled)
    frozen = region is not None and region.spec.suspend
    for kind in kinds:
        asked = "" if region is None else region.meta.annotations.get(ANNOTATIONS[kind], "")
        known = handled.get(kind, Handled())
        if not usable.get(kind, False):
            needs.append(Need(kind, first=True))
            next_handled[kind] = Handled(asked, now)
            continue
        due = bool(asked) and asked != known.value and not frozen
        end = expires.get(kind)
        if end is not None:
            left = end - RENEW_BEFORE_SECONDS - now
            due = due or left <= 0
            after.append(max(left, 0.0))
        if not due:
            continue
        wait = known.at + SETTLE_SECONDS - now
        if wait > 0:
            after.append(wait)
            continue
        needs.append(Need(kind, first=False))
        next_handled[kind] = Handled(asked, now)
    return Verdict(tuple(needs), min(after, default=None), next_handled)


def rotate_token(data: Mapping[str, str], new: str) -> dict[str, str]:
    """The new token beside the one that was current."""
    return {**data, TOKEN: new, TOKEN_PREVIOUS: data.get(TOKEN, "")}


def pick_tokens(data: Mapping[str, str]) -> tuple[SecretStr, ...]:
    """Tokens to try, the current one first."""
    return tuple(SecretStr(token) for key in (TOKEN, TOKEN_PREVIOUS) if (token := data.get(key, "").strip()))


def join_authorities(new: str, old_bundle: str) -> str:
    """The new authority's certificate and the newest of the old bundle: enough to verify whoever has not got the new
    leaf yet.
    """
    marker = "-----END CERTIFICATE-----"
    head, found, _ = old_bundle.partition(marker)
    return new.strip() + "\n" + (f"{head.strip()}\n{marker}\n" if found else "")


def pick_engine_keys(data: Mapping[str, str]) -> tuple[EngineKey, ...]:
    """Every engine key a pod may have been started with, by id."""
    return tuple(
        EngineKey(id=key_id, key=SecretStr(key)) for key_id, key in sorted(data.items()) if key_id != CURRENT and key
    )


def current_engine_key(data: Mapping[str, str]) -> str:
    """Id of the key that new pods start with; empty if there is none yet."""
    key_id = data.get(CURRENT, "").strip()
    return key_id if data.get(key_id) else ""


def age_of_key(key_id: str) -> int:
    """Ids count upwards, so the highest is the newest; 0 for an id that is none of ours."""
    number = key_id.removeprefix("key-")
    return int(number) if number.isdigit() else 0


def next_key_id(data: Mapping[str, str], taken: Iterable[str] = ()) -> str:
    """An id that names no other key, in this Secret or in one before it that pods were started with (`taken`). Ids
    count upwards so that their order is their age.
    """
    return f"key-{max((age_of_key(key_id) for key_id in (*data, *taken)), default=0) + 1}"


def rotate_engine_key(data: Mapping[str, str], new: str, taken: Iterable[str] = ()) -> dict[str, str]:
    """A new current key beside all others."""
    key_id = next_key_id(data, taken)
    return {**data, key_id: new, CURRENT: key_id}


def drop_unused_keys(data: Mapping[str, str], used: Iterable[str]) -> dict[str, str]:
    """The same without keys that no pod was started with and no template names."""
    keep = {CURRENT, current_engine_key(data), *used}
    return {key_id: key for key_id, key in data.items() if key_id in keep}
