"""What a gate has said: nothing passes by accident, and every failure has its reason."""

from __future__ import annotations

import json
from typing import Any

import pytest

from npc_operator.domain.facts import ContainerFact, GateFact, Pod
from npc_operator.domain.gate import BadVerdict, Verdict, has_verdict, parse_verdict, read_gate
from tests.support.builders import NAMESPACE

GOOD = json.dumps({"pass": True, "message": "20 of 20 in voice", "numbers": {"inVoice": 20, "share": 0.955}})


def pod(message: str = "", *, exit_code: int | None = 0, phase: str = "Succeeded", **container: Any) -> Pod:
    reason = "" if exit_code is None else "Completed" if exit_code == 0 else "Error"
    fields = {"terminated_reason": reason, **container}
    gate = ContainerFact("gate", exit_code=exit_code, termination_message=message, **fields)
    return Pod(NAMESPACE, "g-1", "u-1", "gate", phase=phase, containers=(ContainerFact("sidecar", exit_code=0), gate))


def failed(reason: str, message: str = "m") -> dict[str, Any]:
    return {"conditions": [{"type": "Failed", "status": "True", "reason": reason, "message": message}]}


def read(status: dict[str, Any], of: Pod | None) -> GateFact:
    return read_gate(status, of, timeout_seconds=60)


def test_a_verdict_that_passes_is_told_with_its_numbers() -> None:
    assert read({}, pod(GOOD)) == GateFact("Passed", "20 of 20 in voice; inVoice 20, share 0.955")
    assert read({}, pod('{"pass": true}')) == GateFact("Passed", "")


def test_a_verdict_that_does_not_pass_fails_however_the_container_ended() -> None:
    bad = '{"pass": false, "message": "speaks of tulips"}'
    assert read({}, pod(bad)) == GateFact("Failed", "speaks of tulips")
    assert read(failed("BackoffLimitExceeded"), pod(bad, exit_code=1, phase="Failed")).message == "speaks of tulips"
    assert read({}, pod('{"pass": false}')).message == "the gate's verdict is that it does not pass"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it wrote no verdict to /dev/termination-log"),
        (" \n", "it wrote no verdict"),
        ("Traceback (most recent call last)", "no JSON"),
        ("[true]", "no JSON object"),
        ("true", "no JSON object"),
        ("{}", 'no "pass"'),
        ('{"pass": 1}', 'no "pass"'),
        ('{"pass": "true"}', 'no "pass"'),
        ('{"pass": true, "message": ["x"]}', '"message"'),
        ('{"pass": true, "numbers": [1]}', '"numbers"'),
        ('{"pass": true, "numbers": {"a": "1"}}', '"numbers"'),
        ('{"pass": true, "numbers": {"a": true}}', '"numbers"'),
        ('{"pass": true, "numbers": {"a": NaN}}', '"numbers"'),
        ('{"pass": true, "numbers": {"a": 1' + "0" * 400 + "}}", '"numbers"'),
        ("[" * 4000, "no JSON"),
        ('{"pass": true, "message": "' + "x" * 4096 + '"}', "cut off"),
    ],
)
def test_what_is_no_verdict_has_not_passed_and_says_why(text: str, why: str) -> None:
    with pytest.raises(BadVerdict, match=why):
        parse_verdict(text)
    told = read({}, pod(text))
    assert told.state == "Failed"
    assert told.message.startswith("the gate ended with exit code 0 (Completed): ")
    assert len(told.message) <= 512
    assert not has_verdict(pod(text))


@pytest.mark.parametrize("passes", ["true", "false"])
@pytest.mark.parametrize("hostile", ["\\u001b[2J\\u001b[31m", "\\ud800", "a\\nb\\r\\u0000", "\\u202egnp.exe"])
def test_what_a_verdict_says_can_be_written_and_shown_whatever_it_is(hostile: str, passes: str) -> None:
    told = read({}, pod(f'{{"pass": {passes}, "message": "{hostile}", "numbers": {{"{hostile}": 1}}}}'))
    assert told.state == ("Passed" if passes == "true" else "Failed")
    assert told.message.isprintable()
    assert told.message.encode()


def test_a_gate_that_says_yes_and_crashes_has_not_passed() -> None:
    told = read({}, pod(GOOD, exit_code=137, phase="Failed"))
    assert told == GateFact(
        "Failed",
        "its verdict passes, but the gate ended with exit code 137: 20 of 20 in voice; inVoice 20, share 0.955",
    )


def test_one_that_takes_too_long_or_loses_its_pod_says_so() -> None:
    assert read(failed("DeadlineExceeded"), None) == GateFact("Failed", "the gate did not end within 60 s")
    told = read(failed("BackoffLimitExceeded", "Job has reached the specified backoff limit"), None)
    assert told.message == "the gate's Job failed: BackoffLimitExceeded: Job has reached the specified backoff limit"


def test_while_it_runs_it_says_what_it_waits_for() -> None:
    assert read({}, None) == GateFact("Running")
    assert read({}, pod(exit_code=None, phase="Running")) == GateFact("Running")
    waiting = pod(exit_code=None, phase="Pending", waiting_reason="ImagePullBackOff", waiting_message="no such image")
    assert read({}, waiting) == GateFact("Running", "container gate: ImagePullBackOff: no such image")
    lost = Pod(NAMESPACE, "g-1", "u-1", "gate", phase="Pending", unschedulable="0/3 nodes")
    assert read({}, lost) == GateFact("Running", "its pod finds no node: 0/3 nodes")


def test_a_container_that_ended_in_a_pod_that_has_not_is_no_end_yet() -> None:
    assert read({}, pod(GOOD, phase="Running")).state == "Running"


def test_only_so_many_numbers_are_shown() -> None:
    shown = Verdict(True, "", tuple((f"n{at}", 1.0) for at in range(40))).describe()
    assert shown.count("n") == 16
