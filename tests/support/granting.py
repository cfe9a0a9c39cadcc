"""Rights that were just granted: the API server decides by what it has heard of Roles and bindings, some moments after
they were stored, so whoever grants something waits until it is in force.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tests.support.kube_env import KubeEnv

Question = tuple[str, str, str, str]
"""(verb, group, resource or resource/subresource, namespace); an empty namespace means all of them."""
_IN_FORCE_SECONDS = 60.0


def refused(env: KubeEnv, user: str, questions: Sequence[Question], *, names: Sequence[str] = ()) -> list[Question]:
    """Those of the questions that the API server answers with no for a user; `names` has the object of each question,
    where only some may be touched.
    """
    reviews = [
        {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {
                "user": user,
                "resourceAttributes": {
                    "verb": verb,
                    "group": group,
                    "resource": resource.partition("/")[0],
                    "subresource": resource.partition("/")[2],
                    "namespace": namespace,
                    "name": name,
                },
            },
        }
        for (verb, group, resource, namespace), name in zip(questions, names or [""] * len(questions), strict=True)
    ]
    bundle = {"apiVersion": "v1", "kind": "List", "items": reviews}
    out = env.kubectl("create", "-f", "-", "-o", "jsonpath={.status.allowed} ", stdin=json.dumps(bundle))
    answers = [answer == "true" for answer in out.split()]
    return [question for question, allowed in zip(questions, answers, strict=True) if not allowed]


def still_refused(
    env: KubeEnv, user: str, questions: Sequence[Question], *, names: Sequence[str] = ()
) -> list[Question]:
    """Those that are answered with no even when there was time for all to be in force."""
    until = time.monotonic() + _IN_FORCE_SECONDS
    while (left := refused(env, user, questions, names=names)) and time.monotonic() < until:
        time.sleep(0.1)
    return left


def await_granted(env: KubeEnv, user: str, objects: Iterable[Mapping[str, Any]]) -> None:
    """Returns when everything that these Roles and ClusterRoles say is in force for a user."""
    questions: list[Question] = []
    names: list[str] = []
    for one in objects:
        if one["kind"] not in ("Role", "ClusterRole"):
            continue
        namespace = one["metadata"].get("namespace", "")
        for rule in one["rules"]:
            for group in rule.get("apiGroups", ()):
                for resource in rule["resources"]:
                    questions += [(verb, group, resource, namespace) for verb in rule["verbs"]]
                    names += [next(iter(rule.get("resourceNames", ("",))))] * len(rule["verbs"])
    left = still_refused(env, user, questions, names=names)
    assert not left, f"{user} was never granted {left}"
