"""Rules of ArchetypeAdapter."""

from __future__ import annotations

from tests.contract.crd.case import Case
from tests.contract.crd.objects import DIGEST, REMOVE

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
            name=f"patterns of probe.{field} are RE2",
            kind="ArchetypeAdapter",
            accept=({f"spec.probe.{field}": ["(?i)blood|night", "^I am\\b"]},),
            refuse=(
                {f"spec.probe.{field}": ["fine", "(unclosed"]},
                {f"spec.probe.{field}": ["fine", "(?=lookahead)"]},
                {f"spec.probe.{field}": ["fine", "(a)\\1"]},
            ),
            field=f"spec.probe.{field}[1]",
            message="error parsing regexp",
        )
        for field in ("mustMatch", "mustNotMatch")
    ),
)
