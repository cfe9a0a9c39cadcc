"""say: one line of a character through the region's gateway, as a game server would get it."""

from __future__ import annotations

from ...wire import GATEWAY_PORT
from .. import parse, paths
from .. import vocabulary as v
from ..answers import Answer, Code, text
from ..clients.agents import entry
from ..clients.lines import Question, Spoken, secure, speak
from ..facts import Pod, Region
from ..ports import Cluster, NotFound, NotReached
from ..rollouts import short
from .session import Session


def run_say(session: Session) -> Code:
    """Ask and show the answer as it comes, with who spoke it."""
    cluster = session.connect()
    namespace = session.namespace(cluster)
    region = parse.parse_region(session.region(cluster, namespace))
    key = read_key(cluster, region, named=session.option("key_secret"))
    pod = pick_gateway(cluster, region)
    question = Question(
        archetype=session.option("archetype"),
        text=session.option("text"),
        tier=session.option("tier"),
        npc=session.option("npc"),
        max_tokens=session.option("max_tokens"),
    )
    streams = session.console.form == "table"
    with cluster.forward(namespace, pod.meta.name, GATEWAY_PORT) as forwarded:
        spoken = speak(
            secure(forwarded) if region.tls else forwarded,
            question,
            key=key,
            timeout=session.option("timeout"),
            heard=session.console.piece if streams else _unheard,
        )
    if streams:
        session.console.piece("\n")
        session.console.note(_told(spoken, pod))
    else:
        session.console.show(Answer(_data(spoken, pod), (text(spoken.text),)))
    return Code.FINE


def read_key(cluster: Cluster, region: Region, *, named: str) -> str:
    """The API key to ask with: from `named` (SECRET or SECRET/ENTRY), else from the region's own Secret; empty where
    the region asks for none. Raises NotFound or Forbidden.
    """
    name, _, wanted = named.partition("/")
    if not name:
        if region.auth_mode == "None":
            return ""
        name = region.auth_secret
    secret = cluster.get(paths.core("secrets", region.meta.namespace, name))
    entries = sorted(secret.get("data") or {})
    if not entries:
        raise NotFound(f"Secret {name} in namespace {region.meta.namespace} holds no key")
    if wanted and wanted not in entries:
        raise NotFound(f"Secret {name} has no entry {wanted}; it has {', '.join(entries)}")
    return entry(secret, wanted or entries[0]).strip()


def pick_gateway(cluster: Cluster, region: Region) -> Pod:
    """A ready gateway pod of the region. Raises NotReached if there is none."""
    namespace = region.meta.namespace
    selector = f"{v.LABEL_COMPONENT}={v.COMPONENT_GATEWAY},{v.LABEL_REGION}={region.meta.name}"
    pods = [parse.parse_pod(one) for one in cluster.list(paths.core("pods", namespace), selector=selector)]
    ready = sorted((pod for pod in pods if pod.ready()), key=lambda pod: pod.meta.name)
    if not ready:
        raise NotReached(
            f"none of {len(pods)} gateway pods of region {region.meta.name} is ready",
            step=f"kubectl npc why region/{region.meta.name} -n {namespace}",
        )
    return ready[0]


def _unheard(_: str) -> None:
    """Pieces are of no use where the whole answer is one document."""


_LEVELS = {
    "Tier": "degraded to a tier that was not asked",
    "BaseModel": "degraded to the base model",
    "Scripted": "degraded to a scripted line",
}
"""What the gateway's header says, for people."""


def _is_digest(served_by: str) -> bool:
    """Whether an adapter spoke; else it is the name of what stood in."""
    return served_by.startswith("sha256:")


def _level(spoken: Spoken) -> str:
    """How far down the line was answered; empty where it was answered as asked."""
    return "" if spoken.degraded == "false" else spoken.degraded


def _told(spoken: Spoken, pod: Pod) -> str:
    degraded = f", {_LEVELS.get(level, f'degraded ({level})')}" if (level := _level(spoken)) else ""
    by = f"digest {short(spoken.digest)}" if _is_digest(spoken.digest) else f"by {spoken.digest or 'nobody'}"
    return (
        f"-- tier {spoken.tier or '(none)'}, {by}{degraded}, first token after "
        f"{spoken.first_token_seconds:.2f} s, whole line {spoken.seconds:.2f} s, through {pod.meta.name}, "
        f"request {spoken.request_id}"
    )


def _data(spoken: Spoken, pod: Pod) -> dict[str, object]:
    return {
        "text": spoken.text,
        "tier": spoken.tier,
        "digest": spoken.digest if _is_digest(spoken.digest) else "",
        "servedBy": spoken.digest,
        "degraded": bool(_level(spoken)),
        "degradedTo": _level(spoken),
        "requestId": spoken.request_id,
        "firstTokenSeconds": spoken.first_token_seconds,
        "seconds": spoken.seconds,
        "gateway": pod.meta.name,
    }
