"""15,000 mixed messages of an interruption queue: received, understood, acted on, counted, and only then deleted.

The queue is moto's SQS in a process of its own over HTTP, asked by the real boto3 through the product's own reader. It
takes most of the time: for each message that is sent or received it adds up all attributes of the queue, so each of its
calls gets slower with every message that the queue holds, and several threads send only as fast as the reader takes.
So beside the rate stands whose CPU it was: the reader's (the product), the senders' (boto3 alone), moto's. Every
hundredth message is no JSON, and three of ten are of no interest; a run counts only if each kind adds up.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any
from unittest.mock import patch

import boto3
from moto.server import ThreadedMotoServer

from hack.bench.figures import Bar, Figure
from hack.bench.plan import Options
from hack.bench.processes import cpu_seconds
from hack.bench.waiting import BenchFault
from npc_operator.clients.interruption_queue import SqsQueue
from npc_operator.clients.interruption_reader import InterruptionReader
from npc_operator.domain.interruption.notices import Ignored, Notice, merge
from npc_operator.domain.interruption.sources.eventbridge import parse_message
from npc_operator.wiring.process import SystemClock

ROW = "queue"
MESSAGES = 15_000
FILLERS = 4
"""Threads that send; the reader is one, as in the product."""
BATCH = 10
ROOM = 4
"""Batches that lie in the queue at most."""
REGION = "eu-west-1"
TIME = "2026-08-01T05:40:02Z"
DECISION_SECONDS = 3.0
"""A notice must be decided on within this: reading all of them must not take longer."""


async def measure_queue(options: Options) -> list[Figure]:
    """The rate of understanding alone, then of the whole way through SQS."""
    # Thousands of messages that nobody understands are meant here.
    logging.getLogger("npc_operator.clients.interruption_queue").setLevel(logging.ERROR)
    bodies = list(build_messages(MESSAGES))
    parsing: list[float] = []
    spent: list[Spent] = []
    for run in range(options.runs):
        parsing.append(_understand(bodies))
        options.say(f"run {run + 1}: {MESSAGES} messages understood in {parsing[-1]:.2f} s")
        spent.append(await read_all(bodies))
        options.say(f"run {run + 1}: {spent[-1]}")
    return read_queue(MESSAGES, parsing, spent)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """Seconds for all messages: by the clock, and of CPU by whose it was."""

    wall: float
    reader: float
    senders: float
    moto: float


def read_queue(messages: int, parsing: Sequence[float], spent: Sequence[Spent]) -> list[Figure]:
    """Runs as figures; CPU in milliseconds a message."""
    what = f"{messages} mixed messages"
    whose = {
        "the reader: the product": [one.reader for one in spent],
        "the senders: boto3 alone": [one.senders for one in spent],
        "moto's SQS": [one.moto for one in spent],
    }
    return [
        Figure(row=ROW, what=f"{what} understood and joined", unit="s", runs=tuple(parsing), bar=Bar(DECISION_SECONDS)),
        Figure(
            row=ROW,
            what=f"{what} received, acted on, counted, deleted",
            unit="messages/s",
            runs=tuple(messages / one.wall for one in spent),
            note="one reader, ten messages a call; moto's SQS and the senders share the cores with it",
        ),
        *(
            Figure(
                row=ROW, what=f"CPU per message of {name}", unit="ms", runs=tuple(1e3 * one / messages for one in cpu)
            )
            for name, cpu in whose.items()
        ),
    ]


def build_messages(count: int) -> Iterator[str]:
    """Mixed as a fleet in trouble sends them, each about a machine of its own."""
    for number in range(count):
        instance = f"i-{number:017x}"
        match number % 10:
            case 0 | 1 | 2 | 3:
                yield _event("aws.ec2", "EC2 Spot Instance Interruption Warning", {"instance-id": instance})
            case 4 | 5:
                yield _event("aws.ec2", "EC2 Instance Rebalance Recommendation", {"instance-id": instance})
            case 6:
                detail = {"instance-id": instance, "state": "shutting-down"}
                yield _event("aws.ec2", "EC2 Instance State-change Notification", detail)
            case 7:
                detail = {"instance-id": instance, "state": "running"}
                yield _event("aws.ec2", "EC2 Instance State-change Notification", detail)
            case _ if number % 100 != 99:
                yield _event("aws.ec2", "EC2 Spot Instance Request Fulfillment", {"instance-id": instance})
            case _:
                yield f"not an event {number}"


def count_expected(count: int) -> tuple[Counter[str], Counter[str]]:
    """Notices by kind, and what is ignored by reason, of `build_messages`; count is a multiple of 100."""
    tenth = count // 10
    notices = Counter({"Interruption": 4 * tenth, "Rebalance": 2 * tenth, "Termination": tenth})
    strange = count // 100
    return notices, Counter({"StaysUp": tenth, "OtherEvent": 2 * tenth - strange, "NotJson": strange})


def _event(source: str, kind: str, detail: dict[str, str]) -> str:
    return json.dumps({"version": "0", "source": source, "detail-type": kind, "time": TIME, "detail": detail})


def _understand(bodies: list[str]) -> float:
    began = time.perf_counter()
    found = [item for body in bodies for item in parse_message(body, seen=1.0)]
    joined = merge(item for item in found if isinstance(item, Notice))
    spent = time.perf_counter() - began
    notices, ignored = count_expected(len(bodies))
    if Counter(item.reason for item in found if isinstance(item, Ignored)) != ignored or len(joined) != sum(
        notices.values()
    ):
        raise BenchFault("messages were miscounted")
    return spent


async def read_all(bodies: list[str]) -> Spent:
    """All of them through an SQS of their own; a multiple of 100 of `build_messages`. Raises BenchFault where they do
    not add up."""
    with _server() as (endpoint, pid):
        return await _read_from(bodies, endpoint, pid)


async def _read_from(bodies: list[str], endpoint: str, moto: int) -> Spent:
    # Whatever identity this machine has is none of the emulator's business.
    identity = {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench"}
    acted: Counter[str] = Counter()

    async def act(notices: tuple[Notice, ...]) -> None:
        acted.update(notice.kind.value for notice in notices)

    with patch.dict(os.environ, identity):
        client: Any = boto3.client("sqs", region_name=REGION, endpoint_url=endpoint)
        url: str = client.create_queue(QueueName="npc")["QueueUrl"]
        queue = SqsQueue(url, REGION, endpoint=endpoint, visibility_seconds=0)
        reader = InterruptionReader(queue, clock=SystemClock(), act=act, trouble=lambda _: None)
        room = threading.Semaphore(ROOM)
        parts = [bodies[start : start + BATCH] for start in range(0, len(bodies), BATCH)]
        began, cpu, served = time.perf_counter(), time.process_time(), cpu_seconds(moto)
        with ThreadPoolExecutor(FILLERS) as fillers:
            sending = [fillers.submit(_send, client, url, part, room) for part in parts]
            finished = 0
            try:
                while finished < len(bodies):
                    if not await reader.read(1):
                        _raise_failed(sending)
                    # What is no message is handed out again until it is given up.
                    before, finished = finished, reader.seen.messages - reader.seen.set_aside["Retry"]
                    if made := finished // BATCH - before // BATCH:
                        room.release(made)
            finally:
                # Whoever is stopped waits for the senders, and they for room that nobody makes any more.
                fillers.shutdown(wait=False, cancel_futures=True)
                room.release(FILLERS)
        senders = sum(sent.result() for sent in sending)
        spent = Spent(
            wall=time.perf_counter() - began,
            reader=time.process_time() - cpu - senders,
            senders=senders,
            moto=cpu_seconds(moto) - served,
        )
    left = await queue.receive(BATCH, 0)
    queue.close()
    client.close()
    if left:
        raise BenchFault("messages are left")
    set_aside = reader.seen.set_aside
    notices, ignored = count_expected(len(bodies))
    if acted != notices or set_aside["Deleted"] != ignored["NotJson"]:
        raise BenchFault(f"miscounted: {dict(acted)}, {dict(set_aside)}")
    return spent


def _send(client: Any, url: str, bodies: list[str], room: threading.Semaphore) -> float:
    """One batch, once there is room for it; returns the CPU seconds that it took."""
    cpu = time.thread_time()
    room.acquire()
    entries = [{"Id": str(at), "MessageBody": body} for at, body in enumerate(bodies)]
    if client.send_message_batch(QueueUrl=url, Entries=entries).get("Failed"):
        raise BenchFault("messages could not be sent")
    return time.thread_time() - cpu


def _raise_failed(sending: Sequence[Future[float]]) -> None:
    """Nothing was there to read: whether that is because a sender broke."""
    for sent in sending:
        if sent.done():
            sent.result()


@contextmanager
def _server() -> Iterator[tuple[str, int]]:
    """moto in a process of its own, so that its CPU is not the reader's: its endpoint and process id."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there,), daemon=True)
    process.start()
    try:
        if not here.poll(60):
            raise BenchFault("moto did not start")
        yield str(here.recv()), process.pid or 0
    finally:
        process.terminate()
        process.join()


def _serve(pipe: Connection) -> None:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    pipe.send(f"http://{host}:{port}")
    while True:
        time.sleep(3600)
