"""What agents and gateways say: the same long polls the operator uses, through the API server's port-forward.

The namespace's token and authority are in a Secret that the caller must be able to read; they stay in memory.
"""

from __future__ import annotations

import base64
import binascii
import http.client
import ssl
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from pydantic import ValidationError

from ...wire import AGENT_PORT, GATEWAY_ADMIN_PORT, POD_HEADER, AgentReport, GatewayReport, server_name
from .. import paths
from .. import vocabulary as v
from ..facts import Pod
from ..ports import CliError, Cluster, NotFound, NotReached, Object

R = TypeVar("R", AgentReport, GatewayReport)

AT_ONCE = 8
BODY_LIMIT = 16 << 20


@dataclass(frozen=True, slots=True)
class Access:
    """How agents and gateways of one namespace are asked."""

    namespace: str
    authority: str = field(repr=False)
    token: str = field(repr=False)


def read_access(cluster: Cluster, namespace: str) -> Access:
    """From the namespace's internal Secret. Raises Forbidden or NotFound."""
    try:
        secret = cluster.get(paths.core("secrets", namespace, v.SECRET_INTERNAL))
    except NotFound:
        raise NotFound(
            f"there is no Secret {v.SECRET_INTERNAL} in namespace {namespace}: the operator makes it with the region",
            step=f"kubectl npc why -n {namespace}",
        ) from None
    return Access(namespace, authority=entry(secret, "ca.crt"), token=entry(secret, "token").strip())


def entry(secret: Object, key: str) -> str:
    """One entry of a Secret as text. Raises NotFound if it is not there; what it holds is in no message."""
    data = secret.get("data") or {}
    try:
        return base64.b64decode(data[key], validate=True).decode()
    except (KeyError, TypeError, binascii.Error, UnicodeDecodeError):
        name = (secret.get("metadata") or {}).get("name", "?")
        raise NotFound(f"Secret {name} has no usable entry {key}") from None


def ask_agents(cluster: Cluster, access: Access, pods: Iterable[Pod]) -> dict[str, AgentReport | CliError]:
    """The whole report of each agent by pod name, or why there is none. A missing right is raised, because it is the
    same for all.
    """
    return _ask_all(pods, lambda pod: _ask(cluster, access, pod, AGENT_PORT, AgentReport, "agent"))


def ask_gateways(cluster: Cluster, access: Access, pods: Iterable[Pod]) -> dict[str, GatewayReport | CliError]:
    """The same of gateways: which table they go by, and what they counted of candidates."""
    return _ask_all(pods, lambda pod: _ask(cluster, access, pod, GATEWAY_ADMIN_PORT, GatewayReport, "gateway"))


def _ask_all(pods: Iterable[Pod], ask: Callable[[Pod], R]) -> dict[str, R | CliError]:
    asked = list(pods)

    def try_to(pod: Pod) -> R | CliError:
        try:
            return ask(pod)
        except (NotReached, NotFound) as error:
            return error

    with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
        return dict(zip((pod.meta.name for pod in asked), pool.map(try_to, asked), strict=True))


def _ask(cluster: Cluster, access: Access, pod: Pod, port: int, report: type[R], who: str) -> R:
    """One whole report at this moment."""
    trust = ssl.create_default_context(cadata=access.authority)
    with (
        cluster.forward(access.namespace, pod.meta.name, port) as plain,
        trust.wrap_socket(plain, server_hostname=server_name(access.namespace)) as secured,
    ):
        connection = http.client.HTTPConnection(who)
        connection.sock = secured
        headers = {"Authorization": f"Bearer {access.token}", POD_HEADER: pod.meta.uid, "Connection": "close"}
        connection.request("GET", "/v1/status?after=-1&wait=0", headers=headers)
        response = connection.getresponse()
        body = response.read(BODY_LIMIT)
        name = f"the {who} of pod {pod.meta.name}"
        if response.status == 401:
            raise NotReached(f"{name} does not accept the token of {v.SECRET_INTERNAL} yet")
        if response.status != 200:
            raise NotReached(f"{name} answered {response.status}")
        try:
            return report.model_validate_json(body)
        except ValidationError:
            raise NotReached(f"{name} speaks a version that this tool does not") from None
