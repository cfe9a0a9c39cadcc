"""Every program the cluster, the demo and the tests run, from the first place that has it.

In this order: the environment variable ``NPC_FLEET_BIN_<NAME>`` (``NPC_FLEET_BIN_KUBE_APISERVER=/path``), the cache,
the official download with its checksum, a build with Go. The Kubernetes programs, etcd and kubectl are built as one
file from the small module in ``hack/cluster/go``; the others with ``go install`` at a pinned version, which Go verifies
against its checksum database. A build is kept under a key of its version and inputs, so a change builds anew.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hack.cluster import promtool
from hack.cluster.console import run_logged, say, step
from hack.cluster.downloads import Release, fetch
from hack.cluster.errors import ClusterError
from hack.cluster.files import locked
from hack.cluster.golang import go_command, go_environment
from hack.cluster.paths import cache_dir

KUBERNETES = "v1.34.4"
ETCD = "v3.6.4"
COREDNS = "v1.12.4"
HELM = "v4.2.3"
HELM3 = "v3.22.0"
VERSITYGW = "v1.8.0"
KWOK = "v0.8.0"
KARPENTER = "v1.14.1"

CONTROL_PLANE = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "coredns")
NODE = ("kubelet",)
_MODULE = Path(__file__).parent / "go"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def architecture() -> str:
    """This machine in Go's words.

    :raises ClusterError: on anything but amd64 and arm64.
    """
    machine = platform.machine()
    if machine not in _ARCHITECTURES:
        raise ClusterError(f"no binaries for {machine}; the local cluster runs on {', '.join(_ARCHITECTURES)}")
    return _ARCHITECTURES[machine]


@dataclass(frozen=True, slots=True)
class Tool:
    """One program. ``package`` is what ``go install`` builds; empty for parts of the combined Kubernetes program.

    ``alias`` is the name Go gives the program where it differs from ours. ``build`` makes it where neither will do, and
    ``inputs`` changes with what that is made of.
    """

    name: str
    version: str
    package: str = ""
    release: Release | None = None
    alias: str = ""
    build: Callable[[Path], None] | None = None
    inputs: str = ""


def _tools() -> dict[str, Tool]:
    arch = architecture()
    machine = {"amd64": "x86_64", "arm64": "arm64"}[arch]
    tools = [
        Tool(
            name,
            KUBERNETES,
            release=Release(
                url := f"https://dl.k8s.io/release/{KUBERNETES}/bin/linux/{arch}/{name}",
                f"{url}.sha256",
            ),
        )
        for name in (
            "kube-apiserver",
            "kube-controller-manager",
            "kube-scheduler",
            "kube-proxy",
            "kubelet",
            "kubectl",
        )
    ]
    etcd = f"https://github.com/etcd-io/etcd/releases/download/{ETCD}"
    etcd_name = f"etcd-{ETCD}-linux-{arch}"
    tools.append(
        Tool("etcd", ETCD, release=Release(f"{etcd}/{etcd_name}.tar.gz", f"{etcd}/SHA256SUMS", f"{etcd_name}/etcd"))
    )
    dns = f"https://github.com/coredns/coredns/releases/download/{COREDNS}/coredns_{COREDNS[1:]}_linux_{arch}.tgz"
    tools.append(
        Tool("coredns", COREDNS, "github.com/coredns/coredns", release=Release(dns, f"{dns}.sha256", "coredns"))
    )
    # Helm 4 installs; 3 renders what its users would install.
    for name, version in (("helm", HELM), ("helm3", HELM3)):
        url = f"https://get.helm.sh/helm-{version}-linux-{arch}.tar.gz"
        package = f"helm.sh/helm/{version.partition('.')[0]}/cmd/helm"
        tools.append(
            Tool(
                name,
                version,
                package,
                Release(url, f"{url}.sha256sum", f"linux-{arch}/helm"),
                alias="" if name == "helm" else "helm",
            )
        )
    s3 = f"https://github.com/versity/versitygw/releases/download/{VERSITYGW}"
    s3_name = f"versitygw_{VERSITYGW}_Linux_{machine}"
    tools.append(
        Tool(
            "versitygw",
            VERSITYGW,
            "github.com/versity/versitygw/cmd/versitygw",
            Release(f"{s3}/{s3_name}.tar.gz", f"{s3}/checksums.txt", f"{s3_name}/versitygw"),
        )
    )
    rules = f"prometheus-{promtool.PROMETHEUS[1:]}.linux-{arch}"
    url = f"https://github.com/prometheus/prometheus/releases/download/{promtool.PROMETHEUS}"
    tools.append(
        Tool(
            "promtool",
            promtool.PROMETHEUS,
            release=Release(f"{url}/{rules}.tar.gz", f"{url}/sha256sums.txt", f"{rules}/promtool"),
            build=promtool.build,
            inputs=promtool.key(),
        )
    )
    tools.append(Tool("kwok", KWOK, "sigs.k8s.io/kwok/cmd/kwok"))
    # Karpenter's core with fake instances; Go calls this program kwok too.
    tools.append(Tool("karpenter-kwok", KARPENTER, "sigs.k8s.io/karpenter/kwok", alias="kwok"))
    return {tool.name: tool for tool in tools}


def names() -> list[str]:
    """Every program :func:`binary` knows."""
    return sorted(_tools())


def binary(name: str) -> Path:
    """The path of a program, downloaded or built when the cache has it not.

    :raises ClusterError: for an unknown name, or when it cannot be had.
    """
    tools = _tools()
    if name not in tools:
        raise ClusterError(f"unknown program {name!r}; known: {', '.join(sorted(tools))}")
    tool = tools[name]
    variable = f"NPC_FLEET_BIN_{name.upper().replace('-', '_')}"
    if chosen := os.environ.get(variable):
        path = Path(chosen).expanduser().absolute()
        if not os.access(path, os.X_OK):
            raise ClusterError(f"{variable}={chosen} is not an executable file")
        return path
    downloaded = _folder(f"{tool.name}-{tool.version}-release") / tool.name
    built = _built_path(tool)
    for candidate in (downloaded, built):
        if candidate.exists():
            return candidate
    with locked(cache_dir() / "locks" / f"{built.parent.name}.lock", doing=f"getting {name}"):
        for candidate in (downloaded, built):
            if candidate.exists():
                return candidate
        if tool.release is not None:
            downloaded.parent.mkdir(parents=True, exist_ok=True)
            if fetch(tool.release, downloaded, what=f"{tool.name} {tool.version}"):
                return downloaded
            downloaded.parent.rmdir()
        if tool.build is not None:
            _build_apart(tool, tool.build, built)
        elif tool.package:
            _install(tool, built)
        else:
            _build_combined(built.parent)
    return built


def binaries(wanted: Iterable[str]) -> dict[str, Path]:
    """Several programs at once, by name."""
    return {name: binary(name) for name in wanted}


def _folder(key: str) -> Path:
    return cache_dir() / "bin" / f"{key}-{architecture()}"


def _built_path(tool: Tool) -> Path:
    if tool.build is not None:
        return _folder(f"{tool.name}-{tool.version}-{tool.inputs}-built") / tool.name
    if tool.package:
        return _folder(f"{tool.name}-{tool.version}-built") / tool.name
    return _folder(f"kube-{KUBERNETES}-{_module_key()}-built") / tool.name


def _module_key() -> str:
    """Changes with anything that goes into the combined program."""
    digest = hashlib.sha256()
    for file in ("go.mod", "go.sum", "main.go"):
        digest.update((_MODULE / file).read_bytes())
    return digest.hexdigest()[:12]


def _combined_parts() -> list[str]:
    return [tool.name for tool in _tools().values() if not tool.package and tool.build is None]


def _build_combined(folder: Path) -> None:
    """Build the Kubernetes programs as one file with a symbolic link for each name."""
    go = go_command()
    _require_module_version()
    temporary = _empty(folder.with_name(f".{folder.name}.new"))
    version = "k8s.io/component-base/version"
    major, minor, _ = KUBERNETES[1:].split(".")
    flags = f"-s -w -X {version}.gitVersion={KUBERNETES} -X {version}.gitMajor={major} -X {version}.gitMinor={minor}"
    with step(f"building Kubernetes {KUBERNETES} and etcd with {go}", usually="5 to 10 minutes once, on 2 cores"):
        run_logged(
            [go, "build", "-trimpath", "-buildvcs=false", "-ldflags", flags, "-o", temporary / "kube", "."],
            log=cache_dir() / "logs" / "build-kube.log",
            what=f"building Kubernetes {KUBERNETES}",
            env=go_environment(),
            cwd=_MODULE,
            nice=5,
        )
    for name in _combined_parts():
        (temporary / name).symlink_to("kube")
    _publish(temporary, folder)


def _install(tool: Tool, built: Path) -> None:
    """``go install`` into a folder of its own: two tools may have the same program name."""
    go = go_command()
    temporary = _empty(built.parent.with_name(f".{built.parent.name}.new"))
    with step(f"building {tool.name} {tool.version} with {go}", usually="1 to 4 minutes once"):
        run_logged(
            [go, "install", "-trimpath", "-ldflags", "-s -w", f"{tool.package}@{tool.version}"],
            log=cache_dir() / "logs" / f"build-{tool.name}.log",
            what=f"building {tool.name} {tool.version}",
            env=go_environment(GOBIN=str(temporary)),
            nice=5,
        )
    if tool.alias:
        (temporary / tool.alias).rename(temporary / tool.name)
    _publish(temporary, built.parent)


def _build_apart(tool: Tool, build: Callable[[Path], None], built: Path) -> None:
    """What has a module of its own."""
    temporary = _empty(built.parent.with_name(f".{built.parent.name}.new"))
    with step(f"building {tool.name} {tool.version}", usually="1 to 3 minutes once, on 2 cores"):
        build(temporary / tool.name)
    _publish(temporary, built.parent)


def _require_module_version() -> None:
    if f"k8s.io/kubernetes {KUBERNETES}\n" not in (_MODULE / "go.mod").read_text():
        raise ClusterError(f"{_MODULE}/go.mod does not require k8s.io/kubernetes {KUBERNETES}; the two must agree")


def _empty(folder: Path) -> Path:
    if folder.exists():  # what an interrupted build left
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    return folder


def _publish(temporary: Path, folder: Path) -> None:
    if folder.exists():  # can only be a remnant without the program: the caller looked under the lock
        shutil.rmtree(folder)
    temporary.rename(folder)


def main(wanted: Sequence[str]) -> int:
    """``python3 -m hack.cluster.binaries NAME...``: have programs at hand, and print their paths.

    What takes minutes on a new machine happens here, where it is told, and not within the time of a test.
    """
    try:
        for name in wanted:
            print(binary(name))
    except ClusterError as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        say("interrupted; the same command goes on from here")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
