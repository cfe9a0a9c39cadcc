"""What the region's chart tells people to type, where the gateway is not as by default."""

from __future__ import annotations

from tests.contract.charts.helm import Helm
from tests.support.kube_env import KubeEnv


def test_a_gateway_with_a_certificate_is_asked_in_https(helm: Helm, with_crds: KubeEnv) -> None:
    plain = helm.install("plain", "npc-region", "plain")
    assert "curl -s http://127.0.0.1:8080/v1/models" in plain
    assert "https" not in plain
    secured = helm.install("secured", "npc-region", "secured", {"region": {"gateway": {"tls": {"secretName": "cert"}}}})
    assert "curl -s --insecure https://127.0.0.1:8080/v1/models" in secured
    assert "the Secret cert is for the Service's name" in secured
