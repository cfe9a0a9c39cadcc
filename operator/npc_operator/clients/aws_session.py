"""Who the operator is to AWS: its pod's own identity, never that of the node underneath.

Of all places where boto3 would look for credentials only two are left by which a pod has an identity of its own: IRSA
(a web identity token) and EKS Pod Identity (a container's credentials address). Files could be anybody's, and the role
of the node is every pod's.
"""

from __future__ import annotations

from collections.abc import Collection

import boto3
import botocore.session

IDENTITIES = frozenset({"assume-role-with-web-identity", "container-role"})
"""Names of botocore's credential providers that a pod's identity comes by."""
ENVIRONMENT = "env"
"""The provider of keys in the operator's own environment (AWS_ACCESS_KEY_ID and its like)."""
EXCHANGES = frozenset({"AssumeRoleWithWebIdentity", "AssumeRoleForPodIdentity"})
"""Calls that give the pod its identity: whatever they answer is no word of the service that was meant."""
UNKNOWN_CALLER = frozenset(
    {
        "AuthFailure",
        "ExpiredToken",
        "ExpiredTokenException",
        "IncompleteSignature",
        "InvalidClientTokenId",
        "InvalidIdentityToken",
        "InvalidSignatureException",
        "MissingAuthenticationToken",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
"""Codes by which any service of AWS says that it does not know who asks."""


def pod_session(*, more: Collection[str] = ()) -> boto3.Session:
    """A session that knows the pod's own identity alone, and what the providers named in `more` know."""
    inner = botocore.session.Session()
    resolver = inner.get_component("credential_provider")
    for provider in list(resolver.providers):
        if provider.METHOD not in IDENTITIES and provider.METHOD not in more:
            resolver.remove(provider.METHOD)
    return boto3.Session(botocore_session=inner)
