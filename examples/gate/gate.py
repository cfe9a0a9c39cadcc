"""A gate: asks a candidate a list of questions and says whether its answers are what they should be.

Runs in the Job that the operator makes for `rollout.analysis.gate` of an ArchetypeAdapter, with nothing but Python's
own library. The verdict goes to /dev/termination-log; the exit code is 0 whenever there is one.
"""

from __future__ import annotations

import json
import os
import re
import sys
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ANSWER_SECONDS = 60
LARGEST_VERDICT = 4000
"""Bytes; kubelet keeps 4,096."""


def ask(environment: Mapping[str, str], question: str) -> str:
    """The candidate's answer. Raises OSError if the engine cannot be asked."""
    body = {
        "model": environment["NPC_GATE_MODEL"],
        "messages": [{"role": "user", "content": question}],
        "max_tokens": int(environment.get("MAX_TOKENS", "64")),
        "temperature": 0,
    }
    request = urllib.request.Request(
        environment["NPC_GATE_URL"] + "/v1/chat/completions",
        data=json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {environment['NPC_GATE_KEY']}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as response:
        answer: str = json.load(response)["choices"][0]["message"]["content"] or ""
    return answer


def find_fault(answer: str, question: Mapping[str, Any]) -> str:
    """What is wrong with an answer; empty if nothing is."""
    if not answer.strip():
        return "no answer"
    for pattern in question.get("mustMatch", ()):
        if not re.search(pattern, answer):
            return f"nothing matches {pattern}"
    for pattern in question.get("mustNotMatch", ()):
        if re.search(pattern, answer):
            return f"something matches {pattern}"
    return ""


def judge(environment: Mapping[str, str]) -> dict[str, Any]:
    """The verdict on all questions."""
    questions = json.loads(Path(environment.get("QUESTIONS", "/questions.json")).read_text(encoding="utf-8"))
    faults = []
    for question in questions:
        answer = ask(environment, question["ask"])
        fault = find_fault(answer, question)
        print(f"{'bad ' if fault else 'good'} {question['ask']!r} -> {answer!r} {fault}", flush=True)
        if fault:
            faults.append(f"{question['ask']}: {fault}")
    good, needed = len(questions) - len(faults), float(environment.get("NEEDED_PERCENT", "90"))
    passed = bool(questions) and 100 * good >= needed * len(questions)
    message = f"{good} of {len(questions)} answers are good" + (f"; {faults[0]}" if faults else "")
    return {"pass": passed, "message": message[:500], "numbers": {"good": good, "asked": len(questions)}}


def main() -> int:
    """Exit code 1 without a verdict: the operator then says that there was none, and this log says why."""
    verdict = json.dumps(judge(os.environ))
    if len(verdict.encode()) > LARGEST_VERDICT:
        print(f"the verdict has more than {LARGEST_VERDICT} bytes", file=sys.stderr)
        return 1
    Path(os.environ.get("TERMINATION_LOG", "/dev/termination-log")).write_text(verdict, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
