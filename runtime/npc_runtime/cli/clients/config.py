"""Which cluster is meant: the kubeconfig as kubectl finds it, or, inside a pod, the pod's own credentials."""

from __future__ import annotations

from pathlib import Path

import yaml

from ..ports import REQUEST_SECONDS, Cluster, NoCluster
from .kube import KubeCluster


def connect(*, kubeconfig: str = "", context: str = "", timeout: float = REQUEST_SECONDS) -> Cluster:
    """A client for the given, the usual or, inside a pod, the pod's own credentials; `timeout` is in seconds for one
    request. Raises NoCluster.
    """
    from kubernetes import config
    from kubernetes.client import ApiClient, Configuration
    from kubernetes.config import incluster_config, kube_config

    settings = Configuration()
    # One attempt each: a tool that is watched should say at once that nobody answers.
    settings.retries = False
    places = kubeconfig or kube_config.KUBE_CONFIG_DEFAULT_LOCATION
    if _is_any(places):
        try:
            client = config.new_client_from_config(
                config_file=places, context=context or None, client_configuration=settings
            )
            return KubeCluster(client, namespace=_context_namespace(places, context), timeout=timeout)
        except config.ConfigException as error:
            raise NoCluster(
                f"the kubeconfig {places} cannot be used: {error}", step="kubectl config get-contexts"
            ) from None
        except yaml.MarkedYAMLError as error:
            # The library's own words quote the file, and with it maybe a token.
            line = f" in line {error.problem_mark.line + 1}" if error.problem_mark is not None else ""
            raise NoCluster(
                f"the kubeconfig {places} is no YAML: {error.problem}{line}", step="kubectl config view"
            ) from None
        except (OSError, AttributeError, KeyError, TypeError, ValueError) as error:
            # The library looks into what it has parsed without asking whether it is what a kubeconfig is.
            raise NoCluster(
                f"the kubeconfig {places} cannot be read: {type(error).__name__}: {error}", step="kubectl config view"
            ) from None
    absent = NoCluster(f"there is no kubeconfig at {places}", step="name one with --kubeconfig or KUBECONFIG")
    if kubeconfig or context:
        raise absent  # who names a cluster means no other, inside a pod too
    try:
        config.load_incluster_config(client_configuration=settings)
    except config.ConfigException:
        raise absent from None
    own = Path(incluster_config.SERVICE_TOKEN_FILENAME).with_name("namespace")
    here = own.read_text(encoding="utf-8").strip() if own.exists() else "default"
    return KubeCluster(ApiClient(configuration=settings), namespace=here, timeout=timeout)


def _is_any(places: str) -> bool:
    from kubernetes.config.kube_config import ENV_KUBECONFIG_PATH_SEPARATOR

    return any(_is_there(place) for place in places.split(ENV_KUBECONFIG_PATH_SEPARATOR) if place)


def _is_there(place: str) -> bool:
    try:
        return Path(place).expanduser().exists()
    except RuntimeError:
        return False  # nobody knows that home: an image's user may have none


def _context_namespace(places: str, context: str) -> str:
    from kubernetes import config

    contexts, active = config.list_kube_config_contexts(config_file=places)
    chosen = next((one for one in contexts if one["name"] == context), active) if context else active
    return str((chosen or {}).get("context", {}).get("namespace") or "default")
