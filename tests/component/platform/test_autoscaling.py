"""AutoScaling groups over real HTTP, against a server that stands in for AWS: made, put back, adopted and removed, with
the pod's own identity and nothing else.

What that server would believe and AWS would not (strategies that do not exist, a desired capacity) is checked in what
was sent to it.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import boto3
import pytest
from botocore.exceptions import ClientError
from moto.server import ThreadedMotoServer

from npc_operator.api import names
from npc_operator.api.nodepools import AutoScalingGroup
from npc_operator.clients import ec2_groups
from npc_operator.clients.autoscaling import AutoScalingClient
from npc_operator.domain.nodepools import GroupDescription, describe_groups, plan_group
from npc_operator.domain.nodepools.groups import (
    ON_DEMAND_STRATEGIES,
    SPOT_STRATEGIES,
    Adopt,
    Create,
    Delete,
    Keep,
    Refuse,
    Shrink,
    Update,
)
from npc_operator.ports import Conflict, NotFound, PortError
from tests.support.builders import tier_fact

REGION = "eu-west-1"
IDENTITY = "/credentials"


class Front(BaseHTTPRequestHandler):
    """Stands before the stand-in: hands out the pod's credentials, keeps what was asked, and fails as the test says."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.identities += 1  # type: ignore[attr-defined]
        expires = "2100-01-01T00:00:00Z"
        found = {"AccessKeyId": "POD", "SecretAccessKey": "pod", "Token": "pod-token", "Expiration": expires}
        self._answer(200, json.dumps(found).encode(), "application/json")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        asked = {key: value[0] for key, value in parse_qs(body.decode()).items()}
        server: Any = self.server
        server.asked.append((asked, self.headers["Authorization"]))
        action = asked["Action"]
        if server.answers.get(action):
            self._answer(200, server.answers[action].pop(0), "text/xml")
            return
        if server.faults.get(action):
            code, status = server.faults[action].pop(0)
            words = f"as the test says: {self.headers['X-Amz-Security-Token']}"
            text = f"<ErrorResponse><Error><Code>{code}</Code><Message>{words}</Message></Error></ErrorResponse>"
            self._answer(status, text.encode(), "text/xml")
            server.failed.set()
            return
        onward = http.client.HTTPConnection("127.0.0.1", server.moto, timeout=20)
        headers = {key: self.headers[key] for key in ("Content-Type", "Authorization", "X-Amz-Date")}
        onward.request("POST", "/", body, headers)
        answer = onward.getresponse()
        self._answer(answer.status, answer.read(), answer.headers["Content-Type"] or "text/xml")
        onward.close()

    def _answer(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """The test's output is not for this."""


def admin(service: str, url: str) -> Any:
    """Somebody else in the account."""
    keys: dict[str, Any] = {"aws_access_key_id": "admin", "aws_secret_access_key": "admin"}
    session: Any = boto3.Session(region_name=REGION, **keys)
    return session.client(service, endpoint_url=url)


@dataclass(frozen=True, slots=True)
class Account:
    """What is the same for all tests."""

    front: Any
    groups: Any
    subnets: list[str]
    client: AutoScalingClient


class Cloud:
    """One region of AWS, emptied for a test."""

    def __init__(self, account: Account) -> None:
        self.front = account.front
        self.url = f"http://127.0.0.1:{account.front.server_port}"
        self.groups = account.groups
        self.subnets = account.subnets
        self.client = account.client
        for group in self.live():
            self.groups.delete_auto_scaling_group(AutoScalingGroupName=group["AutoScalingGroupName"], ForceDelete=True)
        self.front.asked, self.front.faults, self.front.answers, self.front.identities = [], {}, {}, 0
        self.front.failed = threading.Event()

    def wanted(self, slice_: str = "spot", *, uid: str = "uid-1", **more: Any) -> GroupDescription:
        fact = tier_fact(uid=uid)
        given = AutoScalingGroup.model_validate(
            {
                "clusterName": "games",
                "region": REGION,
                "launchTemplate": {"name": "gpu-nodes"},
                "subnets": self.subnets,
                "instanceTypes": ["g6.2xlarge", "g5.2xlarge"],
                "maxSize": 6,
                **more,
            }
        )
        return describe_groups(fact.meta, fact.spec, given)[slice_]

    def live(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.groups.describe_auto_scaling_groups()["AutoScalingGroups"]
        return found

    def asked(self, action: str) -> list[dict[str, str]]:
        return [asked for asked, _ in self.front.asked if asked["Action"] == action]


@pytest.fixture(scope="module")
def account() -> Iterator[Account]:
    """A server that stands in for AWS, with a launch template and its default network."""
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    _, port = moto.get_host_and_port()
    front: Any = ThreadingHTTPServer(("127.0.0.1", 0), Front)
    front.moto = port
    thread = threading.Thread(target=front.serve_forever, daemon=True)
    thread.start()
    ec2 = admin("ec2", f"http://127.0.0.1:{port}")
    ec2.create_launch_template(LaunchTemplateName="gpu-nodes", LaunchTemplateData={"ImageId": "ami-12c6146b"})
    subnets = sorted(subnet["SubnetId"] for subnet in ec2.describe_subnets()["Subnets"])[:2]
    client = AutoScalingClient(endpoint=f"http://127.0.0.1:{front.server_port}")
    yield Account(front, admin("autoscaling", f"http://127.0.0.1:{port}"), subnets, client)
    front.shutdown()
    front.server_close()
    thread.join()
    moto.stop()


@pytest.fixture
def cloud(account: Account, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    found = Cloud(account)
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", found.url + IDENTITY)
    return found


async def look(client: AutoScalingClient, wanted: GroupDescription) -> Any:
    return await client.find(REGION, named=[wanted.name], tagged=wanted.identity())


async def plan(client: AutoScalingClient, wanted: GroupDescription, *, keep: bool = True) -> Any:
    live = await look(client, wanted)
    return plan_group(live, wanted if keep else None, identity=wanted.identity())


@pytest.mark.parametrize(("slice_", "share"), [("spot", 0), ("on-demand", 100)])
async def test_a_group_is_made_as_described_and_then_nothing_is_to_be_done(
    cloud: Cloud, slice_: str, share: int
) -> None:
    client, wanted = cloud.client, cloud.wanted(slice_, minSize=1)
    assert await plan(client, wanted) == Create()
    await client.create(REGION, wanted)
    (group,) = cloud.live()
    spread = group["MixedInstancesPolicy"]["InstancesDistribution"]
    assert spread["OnDemandPercentageAboveBaseCapacity"] == share
    assert spread["SpotAllocationStrategy"] == "capacity-optimized"
    assert group["MinSize"] == 1
    # The stand-in does not tell what became of it.
    assert [asked["CapacityRebalance"] for asked in cloud.asked("CreateAutoScalingGroup")] == [
        "true" if slice_ == "spot" else "false"
    ]
    assert {tag["Key"]: tag["Value"] for tag in group["Tags"]} == wanted.tags
    assert await plan(client, wanted) == Keep()


async def test_instances_can_be_described_instead_of_named(cloud: Cloud) -> None:
    described = {"vcpus": {"min": 4, "max": 16}, "memoryMebibytes": {"min": 16384}, "acceleratorNames": ["l4", "a10g"]}
    wanted = cloud.wanted(instanceTypes=(), instanceRequirements=described)
    client = cloud.client
    await client.create(REGION, wanted)
    (sent,) = cloud.asked("CreateAutoScalingGroup")
    prefix = "MixedInstancesPolicy.LaunchTemplate.Overrides.member.1.InstanceRequirements"
    assert sent[f"{prefix}.VCpuCount.Max"] == "16"
    assert {sent[f"{prefix}.AcceleratorNames.member.{number}"] for number in (1, 2)} == {"l4", "a10g"}


async def test_the_desired_capacity_is_never_sent(cloud: Cloud) -> None:
    client, wanted = cloud.client, cloud.wanted()
    await client.create(REGION, wanted)
    cloud.groups.set_desired_capacity(AutoScalingGroupName=wanted.name, DesiredCapacity=3)
    await client.update(REGION, wanted.name, cloud.wanted(maxSize=9))
    (group,) = cloud.live()
    assert (group["DesiredCapacity"], group["MaxSize"]) == (3, 9)
    sent = [*cloud.asked("CreateAutoScalingGroup"), *cloud.asked("UpdateAutoScalingGroup")]
    assert len(sent) == 2
    assert not [asked for asked in sent if "DesiredCapacity" in asked]
    assert cloud.asked("SetDesiredCapacity") == []


async def test_only_strategies_that_aws_knows_are_sent(cloud: Cloud) -> None:
    """The stand-in takes any text, and so does AWS until it starts an instance."""
    nonsense = {"SpotAllocationStrategy": "cheapest-of-all"}
    cloud.groups.create_auto_scaling_group(
        AutoScalingGroupName="nonsense",
        MinSize=0,
        MaxSize=1,
        VPCZoneIdentifier=cloud.subnets[0],
        MixedInstancesPolicy={
            "LaunchTemplate": {"LaunchTemplateSpecification": {"LaunchTemplateName": "gpu-nodes"}},
            "InstancesDistribution": nonsense,
        },
    )
    known = {"capacity-optimized", "price-capacity-optimized", "capacity-optimized-prioritized", "lowest-price"}
    assert set(SPOT_STRATEGIES.values()) == known
    assert set(ON_DEMAND_STRATEGIES.values()) == {"lowest-price", "prioritized"}
    for field in ("spotAllocationStrategy", "onDemandAllocationStrategy"):
        with pytest.raises(ValueError, match=field):
            cloud.wanted(**{field: "cheapest-of-all"})
    client = cloud.client
    for number, word in enumerate(SPOT_STRATEGIES):
        await client.create(REGION, replace(cloud.wanted(spotAllocationStrategy=word), name=f"npc-{number}"))
    key = "MixedInstancesPolicy.InstancesDistribution.SpotAllocationStrategy"
    assert {asked[key] for asked in cloud.asked("CreateAutoScalingGroup")} == known


async def test_what_somebody_changed_is_seen_and_put_back(cloud: Cloud) -> None:
    client, wanted = cloud.client, cloud.wanted()
    await client.create(REGION, wanted)
    cloud.groups.update_auto_scaling_group(
        AutoScalingGroupName=wanted.name, MaxSize=50, VPCZoneIdentifier=cloud.subnets[0]
    )
    found = await plan(client, wanted)
    assert isinstance(found, Update)
    # The stand-in forgets the instances policy when an update does not repeat it; AWS keeps it. Nor does it let go of
    # capacity rebalance, so that is in the tables of tests/unit/domain/nodepools alone.
    assert set(found.changed) >= {"maximum", "subnets"}
    await client.update(REGION, found.name, wanted)
    assert await plan(client, wanted) == Keep()


async def test_an_update_that_was_cut_off_between_settings_and_tags_is_finished_by_the_next(cloud: Cloud) -> None:
    client = cloud.client
    await client.create(REGION, cloud.wanted())
    wanted = cloud.wanted(maxSize=7, tags={"team": "voices"})
    cloud.front.faults["CreateOrUpdateTags"] = [("InternalFailure", 500)] * 4
    with pytest.raises(PortError) as failure:
        await client.update(REGION, wanted.name, wanted)
    assert failure.value.retryable
    assert await plan(client, wanted) == Update(wanted.name, ("tags",))
    await client.update(REGION, wanted.name, wanted)
    assert await plan(client, wanted) == Keep()


async def test_a_throttled_call_is_tried_again_and_then_left_to_the_queue(cloud: Cloud) -> None:
    client, wanted = cloud.client, cloud.wanted()
    cloud.front.faults["CreateAutoScalingGroup"] = [("Throttling", 400)] * 2
    await client.create(REGION, wanted)
    assert len(cloud.asked("CreateAutoScalingGroup")) == 3
    cloud.front.faults["DescribeAutoScalingGroups"] = [("Throttling", 400)] * 4
    with pytest.raises(PortError) as failure:
        await look(client, wanted)
    assert (failure.value.reason, failure.value.retryable) == ("Throttled", True)
    assert await plan(client, wanted) == Keep()


@pytest.mark.parametrize(
    ("code", "status", "reason", "retryable"),
    [
        ("AccessDenied", 403, "Forbidden", False),
        ("LimitExceeded", 400, "QuotaExceeded", False),
        ("ValidationError", 400, "Invalid", False),
        ("ScalingActivityInProgress", 400, "Busy", True),
        ("ServiceUnavailable", 503, "Unavailable", True),
    ],
)
async def test_a_refusal_says_whether_trying_again_helps(
    cloud: Cloud, code: str, status: int, reason: str, retryable: bool
) -> None:
    cloud.front.faults["CreateAutoScalingGroup"] = [(code, status)] * 4
    with pytest.raises(PortError) as failure:
        await cloud.client.create(REGION, cloud.wanted())
    assert (failure.value.reason, failure.value.retryable) == (reason, retryable)
    assert "as the test says" in str(failure.value)


@pytest.mark.parametrize("code", ["InvalidClientTokenId", "SignatureDoesNotMatch", "IncompleteSignature"])
async def test_a_refusal_of_what_was_signed_is_told_without_what_was_signed(cloud: Cloud, code: str) -> None:
    cloud.front.faults["CreateAutoScalingGroup"] = [(code, 403)] * 4
    with pytest.raises(PortError) as failure:
        await cloud.client.create(REGION, cloud.wanted())
    assert (failure.value.reason, failure.value.retryable) == ("CloudCredentials", False)
    assert code in str(failure.value)
    assert "pod-token" not in str(failure.value)


def test_a_role_that_cannot_be_taken_on_is_a_fault_of_the_identity() -> None:
    answer: Any = {"Error": {"Code": "AccessDenied", "Message": "not authorized"}}
    error = ec2_groups.error_of(ClientError(answer, "AssumeRoleWithWebIdentity"), "describe groups")
    assert (error.reason, error.retryable) == ("CloudCredentials", False)


NAMELESS = "<AutoScalingGroups><member><MinSize>1</MinSize></member></AutoScalingGroups>"


def described(inside: str) -> str:
    name = "DescribeAutoScalingGroups"
    return f"<{name}Response><{name}Result>{inside}</{name}Result></{name}Response>"


@pytest.mark.parametrize(
    "answer",
    ["", "<html><body>Welcome</body></html>", described(""), described(NAMELESS)],
    ids=["nothing", "a proxy's page", "no list", "a group without a name"],
)
async def test_an_answer_that_is_none_never_means_that_there_are_no_groups(cloud: Cloud, answer: str) -> None:
    cloud.front.answers["DescribeAutoScalingGroups"] = [answer.encode()] * 4
    with pytest.raises(PortError) as failure:
        await look(cloud.client, cloud.wanted())
    assert (failure.value.reason, failure.value.retryable) == ("NoAnswer", True)


async def test_a_token_that_is_not_there_is_a_fault_of_the_identity(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("AWS_CONTAINER_CREDENTIALS_FULL_URI")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/npc")
    with pytest.raises(PortError) as failure:
        await AutoScalingClient(endpoint=cloud.url).find(REGION, named=["x"], tagged={})
    assert (failure.value.reason, failure.value.retryable) == ("CloudCredentials", False)


async def test_a_group_of_the_same_name_is_a_conflict_and_one_that_is_gone_is_said(cloud: Cloud) -> None:
    client, wanted = cloud.client, cloud.wanted()
    cloud.front.faults["CreateAutoScalingGroup"] = [("AlreadyExists", 400)]  # the stand-in makes a second one
    with pytest.raises(Conflict):
        await client.create(REGION, wanted)
    await client.create(REGION, wanted)
    cloud.groups.delete_auto_scaling_group(AutoScalingGroupName=wanted.name, ForceDelete=True)
    with pytest.raises(NotFound):
        await client.update(REGION, wanted.name, wanted)
    await client.delete(REGION, wanted.name)  # gone already is success


async def test_a_group_with_our_tags_is_adopted_whatever_its_name(cloud: Cloud) -> None:
    client = cloud.client
    first = replace(cloud.wanted(uid="uid-of-before"), name="made-by-hand")
    await client.create(REGION, first)
    wanted = cloud.wanted(uid="uid-of-now")
    found = await plan(client, wanted)
    assert found == Adopt("made-by-hand")
    await client.update(REGION, "made-by-hand", wanted)
    assert await plan(client, wanted) == Keep()
    assert [group["AutoScalingGroupName"] for group in cloud.live()] == ["made-by-hand"]


@pytest.mark.parametrize("tag", [names.LABEL_MANAGED_BY, names.LABEL_CLUSTER, names.LABEL_NAMESPACE, names.LABEL_TIER])
async def test_nothing_is_changed_or_deleted_that_lacks_one_of_our_tags(cloud: Cloud, tag: str) -> None:
    client, wanted = cloud.client, cloud.wanted()
    tags = {key: value for key, value in wanted.tags.items() if key != tag}
    await client.create(REGION, replace(wanted, tags=tags))
    assert isinstance(await plan(client, wanted), Refuse)
    assert await plan(client, wanted, keep=False) == Keep()


async def test_the_group_of_another_cluster_is_not_seen(cloud: Cloud) -> None:
    client = cloud.client
    await client.create(REGION, cloud.wanted(clusterName="other"))
    assert await plan(client, cloud.wanted()) == Create()


async def test_a_group_goes_in_two_steps_and_never_by_force(cloud: Cloud) -> None:
    client, wanted = cloud.client, cloud.wanted(minSize=1)
    await client.create(REGION, wanted)
    assert await plan(client, wanted, keep=False) == Shrink(wanted.name)
    await client.shrink(REGION, wanted.name)
    cloud.groups.set_desired_capacity(AutoScalingGroupName=wanted.name, DesiredCapacity=0)
    assert await plan(client, wanted, keep=False) == Delete(wanted.name)
    await client.delete(REGION, wanted.name)
    assert cloud.live() == []
    assert [asked["ForceDelete"] for asked in cloud.asked("DeleteAutoScalingGroup")] == ["false"]


async def test_why_no_instance_started_is_told_in_the_clouds_words(cloud: Cloud) -> None:
    client, wanted = cloud.client, cloud.wanted()
    await client.create(REGION, wanted)
    assert await client.last_failure(REGION, wanted.name) == ""
    begun = datetime.now(UTC).isoformat()
    failed = (
        f"<Activities><member><StatusCode>Failed</StatusCode><StartTime>{begun}</StartTime>"
        "<StatusMessage>There is no Spot capacity available.</StatusMessage></member></Activities>"
    )
    # The stand-in's tries never fail.
    name = "DescribeScalingActivities"
    answer = f"<{name}Response><{name}Result>{failed}</{name}Result></{name}Response>"
    cloud.front.answers[name] = [answer.encode()]
    assert await client.last_failure(REGION, wanted.name) == "There is no Spot capacity available."
    assert {asked["AutoScalingGroupName"] for asked in cloud.asked(name)} == {wanted.name}


@pytest.mark.parametrize(
    ("code", "hours", "why"),
    [("Failed", 1, "a limit"), ("Failed", 7, ""), ("Successful", 0, ""), ("InProgress", 0, "")],
)
def test_only_the_newest_try_counts_and_not_for_ever(code: str, hours: int, why: str) -> None:
    now = datetime(2026, 1, 2, tzinfo=UTC)
    newest = {"StatusCode": code, "StartTime": now - timedelta(hours=hours), "StatusMessage": "a limit"}
    before = {"StatusCode": "Failed", "StartTime": now, "StatusMessage": "before"}
    assert ec2_groups.find_failure([newest, before], now.timestamp()) == why


async def test_more_groups_than_one_page_holds_are_all_found(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ec2_groups, "PAGE", 2)
    client, wanted = cloud.client, cloud.wanted()
    for number in range(5):
        await client.create(REGION, replace(wanted, name=f"npc-{number:03}"))
    assert len(await look(client, wanted)) == 5
    assert len(cloud.asked("DescribeAutoScalingGroups")) > 2


async def test_only_the_pods_own_identity_is_used(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "SOMEBODY")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "else")
    await AutoScalingClient(endpoint=cloud.url).find(REGION, named=["x"], tagged={"a": "b"})
    assert cloud.front.identities == 1
    assert all("Credential=POD/" in signed for _, signed in cloud.front.asked)


async def test_without_an_identity_of_the_pod_nothing_is_asked(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_CONTAINER_CREDENTIALS_FULL_URI")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "SOMEBODY")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "else")
    with pytest.raises(PortError) as failure:
        await AutoScalingClient(endpoint=cloud.url).find(REGION, named=["x"], tagged={})
    assert (failure.value.reason, failure.value.retryable) == ("CloudCredentials", False)
    assert cloud.front.asked == []


async def test_a_cloud_that_cannot_be_reached_is_tried_again_later(cloud: Cloud, unused_tcp_port: int) -> None:
    with pytest.raises(PortError) as failure:
        await AutoScalingClient(endpoint=f"http://127.0.0.1:{unused_tcp_port}").find(REGION, named=["x"], tagged={})
    assert (failure.value.reason, failure.value.retryable) == ("Unreachable", True)


async def test_nothing_more_is_asked_for_somebody_who_does_not_lead_any_more(cloud: Cloud) -> None:
    """Whoever leads next may have removed the tier's groups, and its finalizer, before a throttled call is tried
    again."""
    cloud.front.faults["CreateAutoScalingGroup"] = [("Throttling", 400)]
    making = asyncio.create_task(AutoScalingClient(endpoint=cloud.url).create(REGION, cloud.wanted()))
    assert await asyncio.to_thread(cloud.front.failed.wait, 20)
    making.cancel()
    await asyncio.wait([making])
    for thread in [thread for thread in threading.enumerate() if thread.name == "autoscaling"]:
        await asyncio.to_thread(thread.join, 30)
        assert not thread.is_alive()
    assert len(cloud.asked("CreateAutoScalingGroup")) == 1
    assert cloud.live() == []


def test_a_cloud_that_does_not_answer_holds_up_neither_the_loops_own_threads_nor_the_end_of_the_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held = threading.Event()

    class Silent:
        def find(self, *_: object, **__: object) -> tuple[()]:
            held.wait(30)
            return ()

    async def scenario() -> None:
        client = AutoScalingClient()
        monkeypatch.setattr("npc_operator.clients.autoscaling._load", lambda _: Silent())
        asking = [asyncio.create_task(client.find(REGION, named=(), tagged={})) for _ in range(40)]
        await asyncio.sleep(0.1)
        await asyncio.wait_for(asyncio.to_thread(int), 5)
        for task in asking:
            task.cancel()
        await asyncio.wait(asking)

    begun = time.monotonic()
    try:
        asyncio.run(scenario())
        assert time.monotonic() - begun < 15
    finally:
        held.set()
