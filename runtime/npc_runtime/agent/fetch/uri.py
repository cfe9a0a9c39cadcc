"""Which place to fetch from a URI means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from ..errors import Reason, refused
from .source import Source


@dataclass(frozen=True, slots=True)
class Expected:
    """What is wanted from a source, for those that can check early."""

    digest: str = ""


def open_source(
    uri: str, *, credentials: Mapping[str, str], file_roots: Sequence[Path], expected: Expected | None = None
) -> Source:
    """The source a URI means; raises AdapterError(UnsupportedUri | RootNotAllowed). Never quotes a URI that holds a
    password.
    """
    try:
        parts = urlsplit(uri)
        netloc_has_user = "@" in parts.netloc
    except ValueError:
        raise refused(Reason.UNSUPPORTED_URI, "the URI cannot be parsed") from None
    if netloc_has_user:
        raise refused(Reason.UNSUPPORTED_URI, "a URI must not hold a user or password: use secretRef")
    if parts.query or parts.fragment:
        raise refused(Reason.UNSUPPORTED_URI, "a URI must not have a query or fragment")
    match parts.scheme:  # imported where used: boto3 takes half a second that an agent without s3 need not spend
        case "s3":
            from .s3 import S3Source

            return S3Source(bucket=parts.netloc, prefix=parts.path, credentials=credentials)
        case "https":
            from .https import HttpsSource

            return HttpsSource(uri, credentials=credentials, digest=(expected or Expected()).digest)
        case "file":
            from .file import FileSource

            return FileSource(parts.netloc, parts.path, roots=file_roots)
        case scheme:
            raise refused(
                Reason.UNSUPPORTED_URI, f"cannot fetch from {scheme or 'a URI without scheme'}: only s3, https and file"
            )
