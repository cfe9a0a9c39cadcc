"""The one exception a user of the cluster tool has to know."""

from __future__ import annotations


class ClusterError(Exception):
    """Something a person can act on; the message says what, where and what to do next."""
