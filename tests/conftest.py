"""Settings that hold for every suite; fixtures live beside the tests that need them.

A folder decides what a test may need: those in `tests/unit` and `tests/component` need neither root nor a cluster, and
must not even see the credentials of the person who runs them.
"""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

HERE = Path(__file__).parent

# Seconds one test may take, with what its fixtures take, by folder; a test with a `timeout` mark of its own keeps
# that. They end what hangs, and so lie far above what the slowest machine needs and above every wait inside a test.
TIME_LIMITS = {"unit": 60, "component": 180, "contract": 400, "e2e": 1800}
# Folders whose tests carry a mark, so that `-m "not e2e"` means what it says.
MARKS = {"contract": pytest.mark.contract, "e2e": pytest.mark.e2e}

# On a shared machine the time one example takes says nothing. Examples are the same on every run, so that what is red
# is red again on the next look; `--hypothesis-profile=explore` searches for new ones.
settings.register_profile("ci", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("explore", deadline=None, max_examples=2_000, print_blob=True)
settings.load_profile("ci")


def pytest_configure() -> None:
    # A shell starts what it puts in the background with SIGINT ignored, and children inherit that; tests of Ctrl-C
    # (and the person at the keyboard) need it to work wherever the suite was started.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def layer_of(path: Path) -> str:
    """The folder of tests/ a test lives in: unit, component, contract or e2e."""
    return path.relative_to(HERE).parts[0]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        layer = layer_of(item.path)
        if layer in MARKS:
            item.add_marker(MARKS[layer])
        if item.get_closest_marker("timeout") is None and layer in TIME_LIMITS:
            item.add_marker(pytest.mark.timeout(TIME_LIMITS[layer]))


@pytest.fixture(autouse=True)
def no_credentials_of_the_user(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fast tests must not be able to reach a real cluster or cloud account, whatever the environment holds."""
    if layer_of(request.path) not in {"unit", "component"}:
        return
    monkeypatch.setenv("KUBECONFIG", "/nonexistent/kubeconfig")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent/credentials")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent/config")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
