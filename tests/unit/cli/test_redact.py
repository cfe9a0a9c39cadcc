"""No secret leaves with a dump: by structure, by known value, by the look of it. Each net is tried alone."""

from __future__ import annotations

import base64
import json

import pytest

from npc_runtime.cli.redact import GONE, Redactor, known_values

PLANTED = "correct-horse-battery-staple"


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def test_a_known_value_is_taken_out_in_every_form() -> None:
    secret = {"kind": "Secret", "data": {"key": encoded(PLANTED + "\n"), "lines": encoded("first-line\nsecond-line\n")}}
    redact = Redactor(known_values([secret]))
    told = redact.text(f"plain {PLANTED} base64 {encoded(PLANTED + chr(10))} part second-line end")
    assert told == f"plain {GONE} base64 {GONE} part {GONE} end"


def test_a_value_that_is_part_of_another_leaves_nothing_behind() -> None:
    assert Redactor(["abcdef", "abcdef-and-more"]).text("x abcdef-and-more y") == f"x {GONE} y"


def test_short_values_would_blacken_ordinary_words_and_are_left() -> None:
    assert known_values([{"data": {"user": encoded("root")}}]) == {encoded("root")}


def test_bytes_that_are_no_text_are_known_by_their_base64() -> None:
    raw = base64.b64encode(b"\xff\xfe\x00binary").decode()
    assert known_values([{"data": {"blob": raw}}]) == {raw}


@pytest.mark.parametrize(
    "line",
    [
        f"Authorization: Bearer {PLANTED}",
        f"AWS_SECRET_ACCESS_KEY={PLANTED}",
        f'{{"password": "{PLANTED}"}}',
        f"--api-key={PLANTED}",
        f"hf_token: {PLANTED}",
        f"https://user:{PLANTED}@hub.example.com/x",
        f"https://bucket.example.com/a?X-Amz-Signature={PLANTED}&x=1",
        "key AKIAIOSFODNN7EXAMPLE used",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\n-----END RSA PRIVATE KEY-----",
        "hf_abcdefghijklmnop is the token",
    ],
)
def test_what_looks_like_a_secret_is_taken_out_of_logs(line: str) -> None:
    told = Redactor().text(f"before {line} after")
    assert GONE in told
    for word in (PLANTED, "AKIAIOSFODNN7EXAMPLE", "MIIEpAIBAAKCAQEA", "hf_abcdefghijklmnop", "dozjgNryP4J3jVmNHl0w5N"):
        assert word not in told
    assert told.startswith("before")


@pytest.mark.parametrize(
    "line",
    [
        "adapter vampire: SecretNotFound: Secret hub-token does not exist",
        "CredentialsMissing: no credentials for s3",
        "digest sha256:5c88ca9fb7c9f235c2aa",
        "max_tokens=8 took 12 ms",
    ],
)
def test_ordinary_lines_stay_as_they_are(line: str) -> None:
    assert Redactor().text(line) == line


def test_objects_lose_environment_values_and_foreign_annotations_and_keep_the_rest() -> None:
    pod = {
        "kind": "Pod",
        "metadata": {
            "name": "gold-1",
            "annotations": {
                "kubectl.kubernetes.io/last-applied-configuration": PLANTED,
                "npcfleet.dev/engine-key": "key-1",
            },
            "managedFields": [{"manager": PLANTED}],
        },
        "spec": {
            "containers": [
                {
                    "name": "engine",
                    "args": ["--model", "/models/base", "--hf-token", PLANTED],
                    "env": [
                        {"name": "A", "value": PLANTED},
                        {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
                    ],
                }
            ]
        },
    }
    told = Redactor().object(pod)
    assert PLANTED not in json.dumps(told)
    assert told["metadata"]["annotations"]["npcfleet.dev/engine-key"] == "key-1"
    container = told["spec"]["containers"][0]
    assert container["args"] == ["--model", "/models/base", "--hf-token", GONE]
    assert container["env"] == [
        {"name": "A", "value": GONE},
        {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
    ]


def test_a_secret_that_gets_in_by_mistake_is_emptied() -> None:
    assert Redactor().object({"kind": "Secret", "data": {"x": encoded(PLANTED)}}) == {"kind": "Secret", "removed": True}
    assert Redactor().object({"kind": "ConfigMap", "data": {"x": PLANTED}})["data"] == {"x": GONE}


def test_references_to_secrets_are_kept_because_they_explain_faults() -> None:
    spec = {"source": {"uri": "s3://a/b", "secretRef": {"name": "bucket-credentials"}}}
    assert Redactor().object(spec) == spec
