"""The command line and the environment: the one place that reads either."""

from __future__ import annotations

import pytest

from npc_operator.settings import DEFAULT_ENGINE_IMAGE, Settings, build_parser, read_settings


def read(*arguments: str, **environment: str) -> Settings:
    return read_settings(["--fleet-image=fleet:1", *arguments], environment)


def test_only_the_fleet_image_must_be_named() -> None:
    settings = read()
    assert settings.command == "run"
    assert settings.engine_image == DEFAULT_ENGINE_IMAGE
    assert settings.namespaces == ()
    assert settings.lease_namespace == "default"
    assert settings.in_cluster == ""


def test_without_a_fleet_image_it_ends_with_usage_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        read_settings([], {})
    assert caught.value.code == 2
    assert "--fleet-image" in capsys.readouterr().err


def test_a_check_needs_no_image() -> None:
    assert read_settings(["check"], {}).command == "check"


def test_a_pod_is_told_where_and_who_it_is() -> None:
    settings = read(
        POD_NAMESPACE="npc-system",
        POD_NAME="npc-operator-0",
        KUBERNETES_SERVICE_HOST="10.0.0.1",
        KUBERNETES_SERVICE_PORT="6443",
    )
    assert settings.own_namespace == settings.lease_namespace == "npc-system"
    assert settings.identity.startswith("npc-operator-0_")
    assert settings.in_cluster == "10.0.0.1:6443"


def test_an_ipv6_api_server_is_bracketed() -> None:
    assert read(KUBERNETES_SERVICE_HOST="fd00::1").in_cluster == "[fd00::1]:443"


def test_a_kubeconfig_on_the_command_line_goes_before_the_pods_own_identity() -> None:
    settings = read("--kubeconfig=/k", KUBERNETES_SERVICE_HOST="10.0.0.1", KUBECONFIG="/other")
    assert (settings.kubeconfig, settings.in_cluster) == ("/k", "")
    assert read(KUBECONFIG="/other").kubeconfig == "/other"


def test_two_processes_of_one_pod_have_two_identities() -> None:
    assert read(POD_NAME="p").identity != read(POD_NAME="p").identity


def test_namespaces_come_from_flags_or_else_from_the_environment_each_once() -> None:
    assert read("--namespace=a", "--namespace=b", "--namespace=a", WATCH_NAMESPACES="c").namespaces == ("a", "b")
    assert read(WATCH_NAMESPACES="a, b,,").namespaces == ("a", "b")


QUEUE = "https://sqs.eu-west-1.amazonaws.com/123456789012/npc"
OTHER = "https://queues.example.com/123456789012/npc"


@pytest.mark.parametrize(
    ("arguments", "environment", "region"),
    [
        ([f"--interruption-queue={QUEUE}"], {}, "eu-west-1"),
        ([f"--interruption-queue={QUEUE}", "--interruption-queue-region=us-east-1"], {}, "us-east-1"),
        ([f"--interruption-queue={QUEUE}"], {"AWS_REGION": "us-east-1"}, "eu-west-1"),
        ([f"--interruption-queue={OTHER}"], {"AWS_REGION": "us-east-1"}, "us-east-1"),
        ([f"--interruption-queue={OTHER}"], {"AWS_DEFAULT_REGION": "us-east-2"}, "us-east-2"),
    ],
)
def test_the_queues_region_is_the_given_one_or_its_urls_or_the_pods(
    arguments: list[str], environment: dict[str, str], region: str
) -> None:
    queue = read(*arguments, **environment).interruption_queue
    assert queue is not None
    assert (queue.region, queue.name) == (region, "npc")


def test_no_queue_is_read_unless_one_is_named() -> None:
    assert read(AWS_REGION="eu-west-1").interruption_queue is None


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--interruption-queue=http://sqs.eu-west-1.amazonaws.com/123456789012/npc"], "--interruption-queue: URL"),
        (
            ["--interruption-queue=https://key:secret@sqs.eu-west-1.amazonaws.com/123456789012/npc"],
            "--interruption-queue: URL",
        ),
        ([f"--interruption-queue={OTHER}"], "region cannot be used"),
        (["--interruption-queue-region=eu-west-1"], "without --interruption-queue"),
    ],
)
def test_a_queue_that_cannot_be_one_ends_with_usage_and_is_not_repeated(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        read(*arguments)
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert told in said
    assert "secret" not in said


def test_every_flag_is_explained() -> None:
    for action in build_parser()._actions:
        assert action.help, action.option_strings
