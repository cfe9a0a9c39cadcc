"""A worker process: one event loop with a data plane, led by the main process over a channel.

It is started with two file descriptors, the channel and a socket that listens already (so that a restarted worker
takes over where the last one left, connections in the kernel's queue included). When the channel closes, the main
process is gone and so is the worker.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
from pathlib import Path

import uvloop

from npc_runtime import wire
from npc_runtime.gateway import sums
from npc_runtime.gateway.access_log import AccessLog, standard_output
from npc_runtime.gateway.channel import Channel, Message
from npc_runtime.gateway.logs import configure_logging
from npc_runtime.gateway.plane import LocalPlane
from npc_runtime.gateway.rollouts.tally import Pair
from npc_runtime.gateway.table import EndpointKey, compile_table
from npc_runtime.gateway.tls import ServerTls


async def _serve(
    channel_fd: int, listening_fd: int, *, workers: int, access_log: bool, tls_dir: Path | None, prefix_affinity: bool
) -> None:
    # The main process decides about the end; a signal to the whole group must not cut lines.
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, lambda: None)
    channel = await Channel.open(socket.socket(fileno=channel_fd))
    tls = None if tls_dir is None else ServerTls(tls_dir)
    log_to = AccessLog(standard_output() if access_log else None)
    plane = LocalPlane(log_to, workers=workers, tls=tls, prefix_affinity=prefix_affinity)
    serving = False
    draining: asyncio.Task[None] | None = None
    while (message := await channel.receive()) is not None and message["do"] != "close":
        if message["do"] == "serve":
            if not serving:
                await plane.serve(socket.socket(fileno=listening_fd))
                serving = True
                gc.collect()
                gc.freeze()
            channel.send({"id": message["id"]})
        elif message["do"] == "drain":
            # Beside the others: a worker that answered no order while its last lines run would be ended for it.
            draining = asyncio.create_task(_drain(plane, channel, message))
        else:
            channel.send({"id": message["id"], **await _handle(plane, message)})
    await plane.close()
    if draining is not None:
        await draining
    channel.close()


async def _drain(plane: LocalPlane, channel: Channel, message: Message) -> None:
    channel.send({"id": message["id"], "running": await plane.drain(float(message["seconds"]))})


async def _handle(plane: LocalPlane, message: Message) -> Message:
    match message["do"]:
        case "apply":
            # Compiled and checked by the main process before it was sent.
            await plane.apply_everywhere(compile_table(wire.RouteTable.model_validate_json(message["table"])))
        case "hear":
            plane.hear(EndpointKey(*message["key"]), wire.Routable.model_validate_json(message["said"]))
        case "lose":
            plane.lose(EndpointKey(*message["key"]))
        case "counts":
            return sums.say(os.getpid(), plane.counts_now())
        case "degraded":
            return {"lines": [[*key, count] for key, count in (await plane.degraded()).items()]}
        case "disturbances":
            return (await plane.disturbances(bool(message["lines"]))).say()
        case "candidates":
            return {"pid": os.getpid(), "seen": [seen.model_dump(mode="json") for seen in plane.rollouts.seen()]}
        case "withdraw":
            plane.rollouts.withdraw(Pair(*message["pair"]), message["why"])
        case "lead":
            plane.lead()
        case "leave":
            plane.leave()
        case unknown:
            raise ValueError(f"the main process asked for {unknown!r}")
    return {}


def main() -> None:
    """Arguments: channel fd, listening fd, number of workers, access log (0 or 1), log level, folder of the data port's
    certificate (may be empty), prefix affinity (0 or 1)."""
    channel_fd, listening_fd, workers, access_log, level, tls_dir, affinity = sys.argv[1:]
    configure_logging(level)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(
            _serve(
                int(channel_fd),
                int(listening_fd),
                workers=int(workers),
                access_log=access_log == "1",
                tls_dir=Path(tls_dir) if tls_dir else None,
                prefix_affinity=affinity == "1",
            )
        )


if __name__ == "__main__":
    main()
