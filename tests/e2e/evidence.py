"""What the cluster looked like when a test failed: on a machine that is gone by then, nothing else can be asked."""

from __future__ import annotations

import subprocess
from pathlib import Path

from hack.cluster.paths import Layout, state_dir
from hack.stack.install import OPERATOR_DEPLOYMENT, OPERATOR_NAMESPACE, Stack

EVENTS = 25
LOG_LINES = 12

LOOKS = (
    ("get", "nodes", "-o", "wide"),
    ("get", "pods", "-A", "-o", "wide"),
    ("get", "npcregions,gputiers,archetypeadapters", "-A"),
    ("get", "endpointslices", "-A"),
    ("get", "events", "-A", "--sort-by=.lastTimestamp"),
    ("logs", "-n", OPERATOR_NAMESPACE, f"deployment/{OPERATOR_DEPLOYMENT}", f"--tail={LOG_LINES}"),
)


def collect(stack: Stack, failure: str) -> str:
    """Nodes, pods, our objects, the last events, and the ends of the logs of operator, kubelets and controllers.

    What failed stands before each of them: of a long output often only a part is kept. Never raises for what is not
    there: it must not hide the failure that it is about.
    """
    looks = [*(_look(stack, arguments) for arguments in LOOKS), *map(_end_of, _logs())]
    return "\n".join(f"# {failure}\n{look}" for look in looks)


def _look(stack: Stack, arguments: tuple[str, ...]) -> str:
    command = stack.kubectl.command(*arguments, "--request-timeout=10s")
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (subprocess.TimeoutExpired, OSError) as error:
        return f"$ kubectl {' '.join(arguments)}\n(no answer: {error})\n"
    lines = (ran.stdout or ran.stderr).splitlines()
    if "events" in arguments:
        lines = lines[-EVENTS:]
    return "\n".join([f"$ kubectl {' '.join(arguments)}", *lines, ""])


def _logs() -> list[Path]:
    folder = Layout(state_dir()).log("any").parent
    return sorted([*folder.glob("*-kubelet.log"), *folder.glob("kube-controller-manager.log")])


def _end_of(log: Path) -> str:
    try:
        lines = log.read_text(errors="replace").splitlines()[-LOG_LINES:]
    except OSError as error:  # a node that a test removed meanwhile
        lines = [f"(not read: {error})"]
    return "\n".join([f"$ tail {log.name}", *(line[:300] for line in lines), ""])
