"""Where bytes come from: the URIs of adapters and base models, and what is refused in them.

A URI is read three times, by three programs (the API server's rules, the operator, the agent), and whatever they could
read differently is a hole: `..`, `//`, percent escapes, user names before an `@`, queries and fragments, backslashes,
control characters. So a path is made of harmless characters only, and everything else is refused at the door.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from npc_operator.api.base import Rule

SEGMENT = "[A-Za-z0-9._=+,~-]+"
PATH = f"(/{SEGMENT})+"
BUCKET = "[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"
HOST = "[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?(:[0-9]{1,5})?"
HUB_NAME = "[A-Za-z0-9][A-Za-z0-9._-]{0,95}"

_CHARACTERS = (
    "letters, digits and . _ = + , ~ - between single slashes; "
    "no query, fragment, user name, escape or slash at the end"
)
NO_DOT_SEGMENTS = Rule("!self.matches('/[.]{1,2}(/|$)')", "must not contain the path segments '.' or '..'")

_S3 = Rule(
    f"!self.startsWith('s3:') || self.matches('^s3://{BUCKET}{PATH}$')",
    f"an s3 location is s3://bucket/prefix: {_CHARACTERS}",
)
_FILE = Rule(
    f"!self.startsWith('file:') || self.matches('^file://{PATH}$')",
    f"a file location is file:///folder: {_CHARACTERS}",
)
_HTTPS = Rule(
    f"!self.startsWith('https:') || self.matches('^https://{HOST}{PATH}$')",
    f"an https location is https://host/folder: {_CHARACTERS}",
)
_HUB = Rule(
    f"!self.startsWith('hf:') || self.matches('^hf://{HUB_NAME}/{HUB_NAME}$')",
    "a Hugging Face location is hf://organisation/name",
)

AdapterUri = Annotated[
    str,
    Field(min_length=1, max_length=1024),
    Rule("self.matches('^(s3|https|file)://')", "must begin with s3://, https:// or file://"),
    _S3,
    _HTTPS,
    _FILE,
    NO_DOT_SEGMENTS,
]
ModelUri = Annotated[
    str,
    Field(min_length=1, max_length=1024),
    Rule("self.matches('^(hf|s3|file)://')", "must begin with hf://, s3:// or file://"),
    _HUB,
    _S3,
    _FILE,
    NO_DOT_SEGMENTS,
]
Folder = Annotated[
    str,
    Field(min_length=2, max_length=512),
    Rule(
        f"self.matches('^{PATH}$')",
        "must be an absolute folder other than /: letters, digits and . _ = + , ~ - between single slashes",
    ),
    NO_DOT_SEGMENTS,
]
NO_FILE_CREDENTIALS = Rule(
    "!has(self.secretRef) || !self.uri.startsWith('file:')",
    "a file location takes no credentials",
    field_path=".secretRef",
)
