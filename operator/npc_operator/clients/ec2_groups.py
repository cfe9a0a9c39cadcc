"""AutoScaling groups of EC2 by boto3, blocking, with the identity of the operator's own pod and no other.

Keys in the environment are not used either (`aws_session` says what is): what makes and deletes groups must be a role
that was given to this pod.

Waiting out a throttled call is boto3's (its standard mode, a few tries with backoff); what is still throttled then is
the queue's, which tries the whole key again later. Nothing more is sent once nobody waits for it: a group that is made
after the next leader removed all of them, and the tier's finalizer, would be nobody's.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, NoCredentialsError
from botocore.exceptions import ConnectionError as NoConnection
from botocore.parsers import ResponseParserError

from npc_operator.clients.aws_session import EXCHANGES, UNKNOWN_CALLER, pod_session
from npc_operator.clients.threads import is_awaited
from npc_operator.domain.nodepools.groups import GroupDescription, LiveGroup, TemplateRef
from npc_operator.ports import Conflict, NotFound, PortError

CONFIG = Config(connect_timeout=5, read_timeout=20, retries={"mode": "standard", "total_max_attempts": 4})
PAGE = 100
DELETING = "Delete in progress"
FAILURE_SECONDS = 6 * 3600.0
"""A group that wants instances goes on trying; one whose last try is older than this wants none any more."""

_FORBIDDEN = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"})
_THROTTLED = frozenset(
    {
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
_BUSY = frozenset({"ScalingActivityInProgress", "ResourceInUse", "ResourceContention", "IdempotentCallInProgress"})
_LIMITS = frozenset({"LimitExceeded"})


class Groups:
    """What ports.NodeGroups says, blocking. Threads may share boto3's clients, but not the making of them."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._session: boto3.Session | None = None
        self._clients: dict[str, Any] = {}
        self._making = threading.Lock()

    def find(self, region: str, *, named: Collection[str], tagged: Mapping[str, str]) -> tuple[LiveGroup, ...]:
        filters = [{"Name": f"tag:{key}", "Values": [value]} for key, value in sorted(tagged.items())]
        found: dict[str, LiveGroup] = {}
        with _told(f"describe groups in {region}"):
            pages = self._client(region).get_paginator("describe_auto_scaling_groups")
            for asked in ({"AutoScalingGroupNames": sorted(named)}, {"Filters": filters}):
                if not any(asked.values()):
                    continue  # an empty list of names would mean all groups of the account
                for page in pages.paginate(**asked, PaginationConfig={"PageSize": PAGE}):
                    for group in page["AutoScalingGroups"]:
                        found[group["AutoScalingGroupName"]] = parse_group(group)
        return tuple(found[name] for name in sorted(found))

    def create(self, region: str, desired: GroupDescription) -> None:
        tags = _tags(desired.name, desired.tags)
        with _told(f"create {desired.name}"):
            self._client(region).create_auto_scaling_group(
                AutoScalingGroupName=desired.name, Tags=tags, **_settings(desired)
            )

    def update(self, region: str, name: str, desired: GroupDescription) -> None:
        with _told(f"update {name}"):
            client = self._client(region)
            client.update_auto_scaling_group(AutoScalingGroupName=name, **_settings(desired))
            client.create_or_update_tags(Tags=_tags(name, desired.tags))

    def shrink(self, region: str, name: str) -> None:
        with _told(f"shrink {name}"):
            self._client(region).update_auto_scaling_group(AutoScalingGroupName=name, MinSize=0, MaxSize=0)

    def delete(self, region: str, name: str) -> None:
        try:
            with _told(f"delete {name}"):
                self._client(region).delete_auto_scaling_group(AutoScalingGroupName=name, ForceDelete=False)
        except NotFound:
            return

    def last_failure(self, region: str, name: str) -> str:
        with _told(f"describe activities of {name}"):
            answer = self._client(region).describe_scaling_activities(AutoScalingGroupName=name, MaxRecords=1)
            return find_failure(answer["Activities"], time.time())

    def _client(self, region: str) -> Any:
        with self._making:
            if region not in self._clients:
                self._session = self._session or pod_session()
                client = self._session.client(
                    "autoscaling", region_name=region, endpoint_url=self._endpoint or None, config=CONFIG
                )
                client.meta.events.register("before-send", _refuse_unawaited)
                self._clients[region] = client
            return self._clients[region]


def _refuse_unawaited(**_: Any) -> None:
    """Before each try of each call."""
    if not is_awaited():
        raise PortError("nobody waits for this any more", reason="Cancelled", retryable=False)


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    """Every failure inside as a PortError."""
    try:
        yield
    except ClientError as error:
        raise error_of(error, what) from error
    except NoCredentialsError as error:
        raise PortError(f"{what}: no identity", reason="CloudCredentials", retryable=False, code=401) from error
    except (HTTPClientError, NoConnection) as error:
        raise PortError(f"{what}: {type(error).__name__}", reason="Unreachable") from error
    except OSError as error:  # what of the network fails is told above: this is the file with the pod's token
        raise PortError(f"{what}: {type(error).__name__}", reason="CloudCredentials", retryable=False) from error
    except (ResponseParserError, KeyError, TypeError, ValueError) as error:
        # A proxy's page, or an answer cut off. None of it says that there are no groups.
        raise PortError(f"{what}: the answer cannot be read ({type(error).__name__})", reason="NoAnswer") from error
    except BotoCoreError as error:
        # Credentials that could not be fetched, a region that does not exist, a parameter of the wrong shape.
        reason = "CloudCredentials" if "redential" in type(error).__name__ else "Invalid"
        raise PortError(f"{what}: {type(error).__name__}", reason=reason, retryable=False) from error


def error_of(error: ClientError, what: str) -> PortError:
    """AWS's refusal as a PortError, in its own words, which name roles and limits; but not where it does not know who
    asks: then they repeat what was signed, the session's token with it."""
    code = str(error.response.get("Error", {}).get("Code") or "Unknown").removesuffix("Fault")
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") or 0)
    message = str(error.response.get("Error", {}).get("Message") or "")[:512]
    text = f"{what}: {code}: {message}"
    if code in UNKNOWN_CALLER or error.operation_name in EXCHANGES:
        return PortError(f"{what}: {code}", reason="CloudCredentials", retryable=False, code=401)
    if code in _FORBIDDEN:
        return PortError(text, reason="Forbidden", retryable=False, code=403)
    if code in _THROTTLED:
        return PortError(text, reason="Throttled", code=429)
    if code == "AlreadyExists":
        return Conflict(text, reason="AlreadyExists", code=409)
    if code in _BUSY:
        return Conflict(text, reason="Busy", code=409)
    if code in _LIMITS:
        return PortError(text, reason="QuotaExceeded", retryable=False, code=429)
    if code == "ValidationError" and "not found" in message:
        return NotFound(text, reason="NotFound", retryable=False, code=404)
    if status >= 500:
        return PortError(text, reason="Unavailable", code=status)
    return PortError(text, reason="Invalid", retryable=False, code=status)


def _settings(desired: GroupDescription) -> dict[str, Any]:
    """What create and update have in common. No desired capacity: that is the cluster autoscaler's."""
    template = desired.template
    which = {"LaunchTemplateId": template.id} if template.id else {"LaunchTemplateName": template.name}
    overrides: list[dict[str, Any]] = [{"InstanceType": one} for one in desired.instance_types]
    if desired.requirements is not None:
        overrides = [{"InstanceRequirements": dict(desired.requirements)}]
    return {
        "MinSize": desired.min_size,
        "MaxSize": desired.max_size,
        "VPCZoneIdentifier": ",".join(desired.subnets),
        "CapacityRebalance": desired.capacity_rebalance,
        "MixedInstancesPolicy": {
            "LaunchTemplate": {
                "LaunchTemplateSpecification": {**which, "Version": template.version},
                "Overrides": overrides,
            },
            "InstancesDistribution": {
                "OnDemandBaseCapacity": desired.on_demand_base,
                "OnDemandPercentageAboveBaseCapacity": desired.on_demand_percentage,
                "OnDemandAllocationStrategy": desired.on_demand_strategy,
                "SpotAllocationStrategy": desired.spot_strategy,
            },
        },
    }


def _tags(name: str, tags: Mapping[str, str]) -> list[dict[str, Any]]:
    return [
        {
            "ResourceId": name,
            "ResourceType": "auto-scaling-group",
            "Key": key,
            "Value": value,
            "PropagateAtLaunch": True,
        }
        for key, value in sorted(tags.items())
    ]


def find_failure(activities: Sequence[Mapping[str, Any]], now: float) -> str:
    """Why the newest activity failed; empty if it did not, or long ago. `now` in Unix seconds."""
    newest = next(iter(activities), None)
    if newest is None or newest["StatusCode"] != "Failed" or now - newest["StartTime"].timestamp() > FAILURE_SECONDS:
        return ""
    return str(newest.get("StatusMessage") or "")


def parse_group(group: Mapping[str, Any]) -> LiveGroup:
    """What DescribeAutoScalingGroups says of one; one that is made otherwise than ours has empty parts."""
    policy = group.get("MixedInstancesPolicy") or {}
    template = policy.get("LaunchTemplate") or {}
    which = template.get("LaunchTemplateSpecification") or {}
    overrides = template.get("Overrides") or ()
    spread = policy.get("InstancesDistribution") or {}
    requirements = [one["InstanceRequirements"] for one in overrides if one.get("InstanceRequirements")]
    subnets = str(group.get("VPCZoneIdentifier") or "")
    return LiveGroup(
        GroupDescription(
            name=group["AutoScalingGroupName"],
            template=TemplateRef(
                id=str(which.get("LaunchTemplateId") or ""),
                name=str(which.get("LaunchTemplateName") or ""),
                version=str(which.get("Version") or "$Default"),
            ),
            subnets=tuple(one.strip() for one in subnets.split(",") if one.strip()),
            instance_types=tuple(one["InstanceType"] for one in overrides if one.get("InstanceType")),
            requirements=dict(requirements[0]) if requirements else None,
            on_demand_base=int(spread.get("OnDemandBaseCapacity") or 0),
            on_demand_percentage=int(spread.get("OnDemandPercentageAboveBaseCapacity", -1)),
            on_demand_strategy=str(spread.get("OnDemandAllocationStrategy") or ""),
            spot_strategy=str(spread.get("SpotAllocationStrategy") or ""),
            capacity_rebalance=bool(group.get("CapacityRebalance")),
            min_size=int(group.get("MinSize") or 0),
            max_size=int(group.get("MaxSize") or 0),
            tags={tag["Key"]: tag.get("Value") or "" for tag in group.get("Tags") or ()},
        ),
        instances=len(group.get("Instances") or ()),
        deleting=group.get("Status") == DELETING,
    )
