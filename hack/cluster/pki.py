"""Certificates of the local cluster, made with ``openssl`` (the standard library can read them, not make them)."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hack.cluster.console import run_quiet
from hack.cluster.files import write_atomically

_DAYS = "3650"


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key."""

    cert: Path
    key: Path

    @classmethod
    def at(cls, folder: Path, name: str) -> Pair:
        return cls(folder / f"{name}.crt", folder / f"{name}.key")

    def exists(self) -> bool:
        return self.cert.exists() and self.key.exists()


def _openssl(*arguments: str | Path) -> None:
    run_quiet(["openssl", *arguments], what=f"openssl {arguments[0]}", env={**os.environ, "OPENSSL_CONF": os.devnull})


def _new(pair: Pair, subject: str, *arguments: str | Path) -> Pair:
    """Make a pair; the certificate takes its place last, so its presence means the pair is whole."""
    pair.cert.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    new_cert, new_key = pair.cert.with_suffix(".crt.new"), pair.key.with_suffix(".key.new")
    _openssl(
        "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc", "-sha256",
        "-days", _DAYS, "-subj", subject, "-keyout", new_key, "-out", new_cert, *arguments,
    )  # fmt: skip
    new_key.chmod(0o600)
    new_key.rename(pair.key)
    new_cert.rename(pair.cert)
    return pair


def authority(folder: Path, name: str) -> Pair:
    """A certificate authority, made when it is not there."""
    pair = Pair.at(folder, name)
    if pair.exists():
        return pair
    extensions = ("basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign")
    return _new(pair, f"/CN=npc-fleet-local {name}", *(part for e in extensions for part in ("-addext", e)))


def issue(
    ca: Pair, folder: Path, name: str, *, common_name: str, groups: Sequence[str] = (), sans: Sequence[str] = ()
) -> Pair:
    """A certificate for client and server use, signed by ``ca``, made when it is not there.

    ``groups`` become organisations, which Kubernetes reads as groups; ``sans`` are ``IP:...`` and ``DNS:...``.
    """
    pair = Pair.at(folder, name)
    if pair.exists():
        return pair
    subject = "".join(f"/O={group}" for group in groups) + f"/CN={common_name}"
    extensions = ["basicConstraints=critical,CA:FALSE", "extendedKeyUsage=clientAuth,serverAuth"]
    if sans:
        extensions.append(f"subjectAltName={','.join(sans)}")
    flags = [part for e in extensions for part in ("-addext", e)]
    return _new(pair, subject, "-CA", ca.cert, "-CAkey", ca.key, *flags)


def signing_key(folder: Path, name: str) -> Pair:
    """A bare key pair (``cert`` is the public key) for service account tokens."""
    pair = Pair(folder / f"{name}.pub", folder / f"{name}.key")
    if pair.exists():
        return pair
    pair.key.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    new_key, new_public = pair.key.with_suffix(".key.new"), pair.cert.with_suffix(".pub.new")
    _openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", new_key)
    new_key.chmod(0o600)
    _openssl("pkey", "-in", new_key, "-pubout", "-out", new_public)
    new_key.rename(pair.key)
    new_public.rename(pair.cert)
    return pair


def write_kubeconfig(path: Path, *, server: str, ca: Pair, client: Pair, context: str) -> None:
    """A kubeconfig that holds everything it needs, readable by its owner only. JSON is YAML."""

    def encoded(file: Path) -> str:
        return base64.b64encode(file.read_bytes()).decode()

    text = json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": context,
            "contexts": [{"name": context, "context": {"cluster": context, "user": context}}],
            "clusters": [
                {"name": context, "cluster": {"server": server, "certificate-authority-data": encoded(ca.cert)}}
            ],
            "users": [
                {
                    "name": context,
                    "user": {
                        "client-certificate-data": encoded(client.cert),
                        "client-key-data": encoded(client.key),
                    },
                }
            ],
        },
        indent=2,
    )
    if not path.exists() or path.read_text() != text:
        write_atomically(path, text, mode=0o600)
