"""What agents say of their pods: the same long poll the operator uses, through the API server's port-forward.

The namespace's token and authority are in a Secret that the caller must be able to read; they stay in memory.
"""

from __future__ import annotations

import base64
import binascii
import http.client
import ssl
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from pydantic import ValidationError

from ...wire import AGENT_PORT, POD_HEADER, AgentReport, server_name
from .. import paths
from .. import vocabulary as v
from ..facts import Pod
from ..ports import CliError, Cluster, NotFound, NotReached, Object

AT_ONCE = 8
BODY_LIMIT = 16 << 20


@dataclass(frozen=True, slots=True)
class Access:
    """How agents of one namespace are asked."""

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
    asked = list(pods)

    def ask(pod: Pod) -> AgentReport | CliError:
        try:
            return ask_agent(cluster, access, pod)
        except (NotReached, NotFound) as error:
            return error

    with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
        return dict(zip((pod.meta.name for pod in asked), pool.map(ask, asked), strict=True))


def ask_agent(cluster: Cluster, access: Access, pod: Pod) -> AgentReport:
    """One agent's whole report at this moment."""
    trust = ssl.create_default_context(cadata=access.authority)
    with (
        cluster.forward(access.namespace, pod.meta.name, AGENT_PORT) as plain,
        trust.wrap_socket(plain, server_hostname=server_name(access.namespace)) as secured,
    ):
        connection = http.client.HTTPConnection("agent")
        connection.sock = secured
        headers = {"Authorization": f"Bearer {access.token}", POD_HEADER: pod.meta.uid, "Connection": "close"}
        connection.request("GET", "/v1/status?after=-1&wait=0", headers=headers)
        response = connection.getresponse()
        body = response.read(BODY_LIMIT)
        if response.status == 401:
            raise NotReached(f"the agent of pod {pod.meta.name} does not accept the token of {v.SECRET_INTERNAL} yet")
        if response.status != 200:
            raise NotReached(f"the agent of pod {pod.meta.name} answered {response.status}")
        try:
            return AgentReport.model_validate_json(body)
        except ValidationError:
            raise NotReached(f"the agent of pod {pod.meta.name} speaks a version that this tool does not") from None
