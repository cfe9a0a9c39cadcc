"""Before anything starts: is the API server there, does it serve our kinds, and may we do what we must? If not, say
the command that mends it.

An absent API server is waited for (it may be starting, too); missing CRDs and rights are a person's to mend, and are
named all at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from npc_operator.api.names import API_VERSION, GROUP, PLURALS, VERSION
from npc_operator.clients.kube import KubeClient
from npc_operator.clients.resources import Resource, find_resource
from npc_operator.ports import NotFound, PortError
from npc_operator.rights import RIGHTS, Right, Scope

logger = logging.getLogger(__name__)

MEND_CRDS = "helm upgrade --install npc-crds charts/npc-crds -n {namespace}"
MEND_RIGHTS = "helm upgrade --install npc-operator charts/npc-operator -n {namespace}"
RETRY_SECONDS = 2.0
QUESTIONS_AT_ONCE = 4
"""Connections cost memory that is not given back; four answer all questions in a tenth of a second."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What is missing, and the command that mends it."""

    what: str
    mend: str


async def wait_for_server(kube: KubeClient, server: str) -> None:
    """Returns once the API server answers; says so every half minute while it does not."""
    tries = 0
    while not await kube.healthy():
        if tries % 15 == 0:
            logger.warning("the API server at %s does not answer, waiting for it", server)
        tries += 1
        await asyncio.sleep(RETRY_SECONDS)


async def find_problems(kube: KubeClient, *, namespaces: Sequence[str], own_namespace: str) -> list[Problem]:
    """Everything missing, at once. Raises PortError if the server cannot be asked."""
    missing_kinds = await _missing_kinds(kube)
    problems = []
    if missing_kinds:
        kinds = ", ".join(missing_kinds)
        problems.append(
            Problem(
                f"the API server does not serve {kinds} in {API_VERSION}", MEND_CRDS.format(namespace=own_namespace)
            )
        )
    questions = [
        (right, verb, namespace)
        for right in RIGHTS
        for verb in right.verbs
        for namespace in _where(right, namespaces, own_namespace)
    ]
    turns = asyncio.Semaphore(QUESTIONS_AT_ONCE)

    async def ask(right: Right, verb: str, namespace: str) -> bool:
        async with turns:
            return await _may(kube, right, verb, namespace)

    answers = await asyncio.gather(*(ask(*question) for question in questions))
    refused: dict[tuple[str, str], list[str]] = {}
    for (right, verb, namespace), allowed in zip(questions, answers, strict=True):
        if not allowed:
            resource = f"{right.resource}.{right.group}" if right.group else right.resource
            refused.setdefault((resource, namespace), []).append(verb)
    for (resource, namespace), verbs in refused.items():
        where = f"in namespace {namespace}" if namespace else "in all namespaces"
        mend = MEND_RIGHTS.format(namespace=own_namespace)
        problems.append(Problem(f"the operator may not {', '.join(verbs)} {resource} {where}", mend))
    return problems


def describe(problems: Iterable[Problem]) -> str:
    """All problems for a person, each mending command once."""
    found = list(problems)
    lines = [f"- {problem.what}" for problem in found]
    commands = dict.fromkeys(problem.mend for problem in found)
    return "\n".join([*lines, "Mend it with:", *(f"  {command}" for command in commands)])


def _where(right: Right, namespaces: Sequence[str], own_namespace: str) -> Sequence[str]:
    match right.scope:
        case Scope.WATCHED:
            return tuple(namespaces) or ("",)
        case Scope.OWN:
            return (own_namespace,)
        case Scope.NODES:
            return () if namespaces else ("",)  # clients.nodes says so where it is missing
        case Scope.POOLS:
            return ()  # wanted by some tiers only, whose condition says so where it is missing
        case Scope.REGION:
            return ()  # granted per region, long after this start; clients.secrets says so where it is missing


async def _missing_kinds(kube: KubeClient) -> list[str]:
    discovery = Resource(API_VERSION, "APIResourceList", "")
    try:
        served = await kube.request("get", discovery, f"/apis/{GROUP}/{VERSION}")
    except NotFound:
        return sorted(PLURALS)
    names = {resource["name"] for resource in served.get("resources", ())}
    return sorted(kind for kind, plural in PLURALS.items() if plural not in names)


async def _may(kube: KubeClient, right: Right, verb: str, namespace: str) -> bool:
    resource, _, subresource = right.resource.partition("/")
    attributes = {"group": right.group, "resource": resource, "subresource": subresource, "verb": verb}
    review = find_resource("authorization.k8s.io/v1", "SelfSubjectAccessReview")
    answer = await kube.request(
        "create",
        review,
        review.path(),
        body={
            "apiVersion": review.api_version,
            "kind": review.kind,
            "spec": {"resourceAttributes": {**attributes, "namespace": namespace}},
        },
    )
    return bool(answer["status"].get("allowed"))


async def check(kube: KubeClient, *, namespaces: Sequence[str], own_namespace: str) -> list[Problem]:
    """`find_problems`, asked again while the server cannot answer."""
    while True:
        try:
            return await find_problems(kube, namespaces=namespaces, own_namespace=own_namespace)
        except PortError as error:
            if not error.retryable:
                raise
            logger.warning("the API server cannot be asked yet: %s", error)
            await asyncio.sleep(RETRY_SECONDS)
