"""Rules of ArchetypeAdapter."""

from __future__ import annotations

from tests.contract.crd.case import Case
from tests.contract.crd.objects import DIGEST, REMOVE

OTHER = "sha256:" + "f" * 64
STEPS = "spec.rollout.steps"
GATE = "spec.rollout.analysis.gate"
URI = "spec.variants.0.source.uri"
_S3 = "an s3 location is s3://bucket/prefix"
_HTTPS = "an https location is https://host/folder"
_FILE = "a file location is file:///folder"

ADAPTER = (
    Case(
        name="adapters come by three schemes",
        kind="ArchetypeAdapter",
        accept=({URI: "s3://b-1/a"}, {URI: "https://cdn.example.com:8443/v/1"}, {URI: "file:///mnt/a"}),
        refuse=({URI: "hf://a/b"}, {URI: "http://host/a"}, {URI: "/mnt/a"}, {URI: "oci://r/a"}, {URI: "S3://b-1/a"}),
        field="spec.variants[0].source.uri",
        message="must begin with s3://, https:// or file://",
    ),
    Case(
        name="an adapter's s3 location has no tricks",
        kind="ArchetypeAdapter",
        accept=({URI: "s3://b-1/a/b.c/D_e-f"},),
        refuse=(
            {URI: "s3://b-1"},
            {URI: "s3:///a"},
            {URI: "s3://b-1//a"},
            {URI: "s3://b-1/a?versionId=1"},
            {URI: "s3://b-1/a#b"},
            {URI: "s3://b-1/a%2fb"},
            {URI: "s3://k:s@b-1/a"},
            {URI: "s3://b-1/a\\b"},
            {URI: "s3://b-1/a\nb"},
            {URI: "s3://b-1/a\x00b"},
            {URI: "s3://b-1/é"},
            {URI: "s3://B/a"},
        ),
        field="spec.variants[0].source.uri",
        message=_S3,
    ),
    Case(
        name="an https location has no tricks",
        kind="ArchetypeAdapter",
        accept=({URI: "https://a/b"},),
        refuse=(
            {URI: "https://host"},
            {URI: "https://host/"},
            {URI: "https://user:pw@host/a"},
            {URI: "https://host/a?token=x"},
            {URI: "https://host/a#x"},
            {URI: "https://host//a"},
            {URI: "https://host/%2e%2e/a"},
            {URI: "https://host\\@evil/a"},
            {URI: "https://host:port/a"},
            {URI: "https://[::1]/a"},
            {URI: "https://host/a\r\nX: y"},
        ),
        field="spec.variants[0].source.uri",
        message=_HTTPS,
    ),
    Case(
        name="a file location has no tricks",
        kind="ArchetypeAdapter",
        accept=({URI: "file:///mnt/adapters/vampire-1"},),
        refuse=(
            {URI: "file://host/a"},
            {URI: "file:///"},
            {URI: "file:///a//b"},
            {URI: "file:////a"},
            {URI: "file:///C:/a"},
            {URI: "file:///a?b"},
            {URI: "file:///a b"},
        ),
        field="spec.variants[0].source.uri",
        message=_FILE,
    ),
    Case(
        name="a location does not climb",
        kind="ArchetypeAdapter",
        accept=({URI: "file:///mnt/...three"},),
        refuse=(
            {URI: "file:///mnt/../etc"},
            {URI: "file:///mnt/.."},
            {URI: "s3://b-1/./a"},
            {URI: "https://host/a/.."},
        ),
        field="spec.variants[0].source.uri",
        message="must not contain the path segments '.' or '..'",
    ),
    Case(
        name="an adapter on disk takes no credentials",
        kind="ArchetypeAdapter",
        accept=({"spec.variants.0.source.secretRef": {"name": "s"}}, {URI: "file:///mnt/a"}),
        refuse=({URI: "file:///mnt/a", "spec.variants.0.source.secretRef": {"name": "s"}},),
        field="spec.variants[0].source.secretRef",
        message="a file location takes no credentials",
    ),
    Case(
        name="a digest is sha256 in lower case hex",
        kind="ArchetypeAdapter",
        accept=({"spec.variants.0.source.digest": "sha256:" + "f" * 64},),
        refuse=(
            {"spec.variants.0.source.digest": "sha256:" + "F" * 64},
            {"spec.variants.0.source.digest": "sha256:" + "f" * 63},
            {"spec.variants.0.source.digest": "sha512:" + "f" * 64},
            {"spec.variants.0.source.digest": ""},
        ),
        field="spec.variants[0].source.digest",
        message="should match '^sha256:[0-9a-f]{64}$'",
    ),
    Case(
        name="a digest is required",
        kind="ArchetypeAdapter",
        accept=({},),
        refuse=({"spec.variants.0.source.digest": REMOVE},),
        field="spec.variants[0].source.digest",
        message="Required value",
    ),
    Case(
        name="one variant per tier",
        kind="ArchetypeAdapter",
        accept=({"spec.variants.0.tier": "silver"},),
        refuse=(
            {"spec.variants": [{"tier": "gold", "source": {"uri": f"s3://b-1/{n}", "digest": DIGEST}} for n in "ab"]},
        ),
        field="spec.variants[1]",
        message="Duplicate value",
    ),
    Case(
        name="an archetype leaves room for its digest",
        kind="ArchetypeAdapter",
        accept=({"spec.archetype": "night-watch-2"},),
        refuse=({"spec.archetype": "vampire--0123456789ab"},),
        field="spec.archetype",
        message="must not contain '--'",
    ),
    Case(
        name="an archetype is a DNS label",
        kind="ArchetypeAdapter",
        accept=({"spec.archetype": "a" * 40},),
        refuse=({"spec.archetype": "Vampire"}, {"spec.archetype": "vam.pire"}, {"spec.archetype": "-vampire"}),
        field="spec.archetype",
        message="should match",
    ),
    *(
        Case(
            name=f"patterns of {field} are RE2",
            kind="ArchetypeAdapter",
            accept=({f"spec.{field}": ["(?i)blood|night", "^I am\\b"]},),
            refuse=(
                {f"spec.{field}": ["fine", "(unclosed"]},
                {f"spec.{field}": ["fine", "(?=lookahead)"]},
                {f"spec.{field}": ["fine", "(a)\\1"]},
            ),
            field=f"spec.{field}[1]",
            message="error parsing regexp",
        )
        for field in ("probe.mustMatch", "probe.mustNotMatch", "answers.mustNotMatch")
    ),
    Case(
        name="a rollout ends with everybody",
        kind="ArchetypeAdapter",
        accept=({STEPS: [10, 25, 50, 100]}, {STEPS: [100]}, {STEPS: [1, 100]}, {"spec.rollout": {}}),
        refuse=({STEPS: [10, 25, 50]}, {STEPS: [99]}, {STEPS: [10, 100, 50]}),
        field=STEPS,
        message="the last step must be 100",
    ),
    Case(
        name="the steps of a rollout rise",
        kind="ArchetypeAdapter",
        accept=({STEPS: [1, 2, 3, 4, 5, 6, 7, 8, 9, 100]},),
        refuse=({STEPS: [50, 25, 100]}, {STEPS: [10, 10, 100]}, {STEPS: [100, 100]}),
        field=STEPS,
        message="steps must rise",
    ),
    Case(
        name="a rollout has a step",
        kind="ArchetypeAdapter",
        accept=({STEPS: [100]},),
        refuse=({STEPS: []},),
        field=STEPS,
        message="should have at least 1 items",
    ),
    Case(
        name="a step is a share of the NPCs",
        kind="ArchetypeAdapter",
        accept=({STEPS: [1, 100]},),
        refuse=({STEPS: [0, 100]},),
        field=f"{STEPS}[0]",
        message="should be greater than or equal to 1",
    ),
    Case(
        name="a ceiling is a share of the NPCs, or nobody",
        kind="ArchetypeAdapter",
        accept=({"spec.rollout.ceilingPercent": 0}, {"spec.rollout.ceilingPercent": 100}),
        refuse=({"spec.rollout.ceilingPercent": 101},),
        field="spec.rollout.ceilingPercent",
        message="should be less than or equal to 100",
    ),
    Case(
        name="what is approved is a digest",
        kind="ArchetypeAdapter",
        accept=({"spec.rollout.approvedDigest": DIGEST}, {"spec.rollout.approvedDigest": ""}),
        refuse=({"spec.rollout.approvedDigest": "sha256:abc"}, {"spec.rollout.approvedDigest": "yes"}),
        field="spec.rollout.approvedDigest",
        message="should match",
    ),
    Case(
        name="an override names one NPC or a prefix",
        kind="ArchetypeAdapter",
        accept=(
            {
                "spec.rollout.overrides": [
                    {"npc": "boss-1", "to": "Stable"},
                    {"npcPrefix": "test-", "to": "Candidate"},
                ]
            },
        ),
        refuse=(
            {"spec.rollout.overrides": [{"to": "Stable"}]},
            {"spec.rollout.overrides": [{"npc": "a", "npcPrefix": "a", "to": "Stable"}]},
        ),
        field="spec.rollout.overrides[0]",
        message="name either npc or npcPrefix",
    ),
    Case(
        name="an override pins to one of two digests",
        kind="ArchetypeAdapter",
        accept=({"spec.rollout.overrides": [{"npc": "a", "to": "Candidate"}]},),
        refuse=({"spec.rollout.overrides": [{"npc": "a", "to": "Newest"}]},),
        field="spec.rollout.overrides[0].to",
        message="Unsupported value",
    ),
    Case(
        name="with too little traffic there are three ways on",
        kind="ArchetypeAdapter",
        accept=tuple({"spec.rollout.onTooLittleTraffic": way} for way in ("Probe", "Hold", "Proceed")),
        refuse=({"spec.rollout.onTooLittleTraffic": "Wait"},),
        field="spec.rollout.onTooLittleTraffic",
        message="Unsupported value",
    ),
    Case(
        name="a gate's own variables do not look like ours",
        kind="ArchetypeAdapter",
        accept=(
            {GATE: {"image": "r/gate:1", "env": [{"name": "QUESTIONS", "value": "3"}]}},
            {GATE: {"image": "r/gate:1"}},
        ),
        refuse=({GATE: {"image": "r/gate:1", "env": [{"name": "A"}, {"name": "NPC_GATE_URL", "value": "x"}]}},),
        field=f"{GATE}.env",
        message="names that begin with NPC_ are the operator's",
    ),
    Case(
        name="a gate has time, and not for ever",
        kind="ArchetypeAdapter",
        accept=({GATE: {"image": "r/gate:1", "timeoutSeconds": 10}},),
        refuse=({GATE: {"image": "r/gate:1", "timeoutSeconds": 9}},),
        field=f"{GATE}.timeoutSeconds",
        message="should be greater than or equal to 10",
    ),
    Case(
        name="a new voice does not begin with a quarantined digest",
        kind="ArchetypeAdapter",
        accept=({"spec.quarantinedDigests": [OTHER]}, {"spec.quarantinedDigests": []}),
        refuse=({"spec.quarantinedDigests": [OTHER, DIGEST]},),
        field="spec.variants",
        message="a quarantined digest cannot be brought in",
    ),
    Case(
        name="what is quarantined is a digest",
        kind="ArchetypeAdapter",
        accept=({"spec.quarantinedDigests": [OTHER]},),
        refuse=({"spec.quarantinedDigests": ["vampire"]},),
        field="spec.quarantinedDigests[0]",
        message="should match '^sha256:[0-9a-f]{64}$'",
    ),
)
