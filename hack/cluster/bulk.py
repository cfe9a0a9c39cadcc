"""Thousands of calls to the API server, quickly: over a few connections that stay open.

:class:`hack.cluster.kubeapi.KubeApi` makes a connection for each call, which suits one that may find the server
restarted; for six thousand objects the handshakes alone would take a minute.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import queue
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from hack.cluster.kubeapi import ApiError, KubeApi

_CONNECTIONS = 8


@dataclass(frozen=True, slots=True)
class Call:
    """One request. ``accept`` are the error statuses that are as good as done (409: it is there already)."""

    method: str
    path: str
    body: Any = None
    content_type: str = "application/json"
    accept: tuple[int, ...] = ()


def send_all(api: KubeApi, calls: Iterable[Call], *, connections: int = _CONNECTIONS) -> int:
    """Make all calls, in no order; returns how many. The first one that fails ends it.

    :raises ApiError: for an answer of 400 and above that the call does not accept, or a server that cannot be reached.
    """
    waiting: queue.SimpleQueue[Call] = queue.SimpleQueue()
    count = 0
    for call in calls:
        waiting.put(call)
        count += 1
    if not count:
        return 0
    with ThreadPoolExecutor(max_workers=min(connections, count)) as pool:
        for done in [pool.submit(_work, api, waiting) for _ in range(min(connections, count))]:
            done.result()
    return count


def _work(api: KubeApi, waiting: queue.SimpleQueue[Call]) -> None:
    connection = api.connection()
    try:
        while True:
            try:
                call = waiting.get_nowait()
            except queue.Empty:
                return
            _send(connection, call)
    except BaseException:
        with contextlib.suppress(queue.Empty):  # the others end too
            while True:
                waiting.get_nowait()
        raise
    finally:
        connection.close()


def _send(connection: http.client.HTTPSConnection, call: Call) -> None:
    label = f"{call.method} {call.path}"
    payload = None if call.body is None else json.dumps(call.body)
    try:
        connection.request(call.method, call.path, body=payload, headers={"Content-Type": call.content_type})
        answer = connection.getresponse()
        raw = answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise ApiError(0, f"{label}: the API server cannot be reached: {error}") from error
    if answer.status >= 400 and answer.status not in call.accept:
        raise ApiError(answer.status, f"{label}: {answer.status} {raw.decode('utf-8', 'replace')[:500]}")
