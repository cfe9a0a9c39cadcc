"""kubectl as an async library: what a person would type, awaited as events instead of polled.

Everything goes through the real kubectl with an explicit kubeconfig, so what the demo prints and what the tests prove
is what users run.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import json
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hack.stack import commands

Object = dict[str, Any]


class KubectlError(Exception):
    """kubectl said no; the message is what it printed."""


class NotYet(Exception):
    """The awaited state did not come in time; the message says what was there last."""


@dataclass(frozen=True, slots=True)
class Kubectl:
    """kubectl at `binary` for the cluster of `kubeconfig`."""

    binary: Path
    kubeconfig: Path

    def command(self, *arguments: str) -> list[str]:
        return [str(self.binary), "--kubeconfig", str(self.kubeconfig), *arguments]

    async def run(self, *arguments: str, stdin: str | None = None, timeout: float = 180.0) -> str:
        """Standard output. Raises KubectlError when kubectl fails, TimeoutError when it hangs."""
        try:
            return await commands.run(self.command(*arguments), stdin=stdin, timeout=timeout)
        except commands.CommandError as error:
            raise KubectlError(f"kubectl {' '.join(arguments)}: {error}") from error

    async def get(self, kind: str, name: str, namespace: str) -> Object:
        return _object(await self.run("get", kind, name, "-n", namespace, "-o", "json"))

    async def find(self, kind: str, name: str, namespace: str) -> Object | None:
        """The object, or None if there is none of that name."""
        text = await self.run("get", kind, name, "-n", namespace, "-o", "json", "--ignore-not-found")
        return _object(text) if text.strip() else None

    async def list(self, kind: str, namespace: str, selector: str = "", *, fields: str = "") -> list[Object]:
        """Those that have the labels of `selector` and the fields of `fields`."""
        chosen = (*(("-l", selector) if selector else ()), *(("--field-selector", fields) if fields else ()))
        text = await self.run("get", kind, "-n", namespace, "-o", "json", *chosen)
        return list(_object(text)["items"])

    async def apply(self, *manifests: Mapping[str, Any]) -> None:
        """`kubectl apply --server-side` as the field manager `user`, all in one call."""
        bundle = {"apiVersion": "v1", "kind": "List", "items": list(manifests)}
        await self.run(
            "apply", "--server-side", "--force-conflicts", "--field-manager=user", "-f", "-", stdin=json.dumps(bundle)
        )

    async def patch(
        self, kind: str, name: str, namespace: str, patch: Mapping[str, Any], *, subresource: str = ""
    ) -> None:
        more = (f"--subresource={subresource}",) if subresource else ()
        await self.run("patch", kind, name, "-n", namespace, "--type=merge", "-p", json.dumps(patch), *more)

    async def delete(self, kind: str, name: str, namespace: str, *more: str, timeout: float = 600.0) -> None:
        """Delete and wait until it is gone; not there already is success."""
        await self.run("delete", kind, name, "-n", namespace, "--ignore-not-found", *more, timeout=timeout)

    async def watch(self, kind: str, namespace: str, *arguments: str) -> AsyncGenerator[tuple[str, Object], None]:
        """(ADDED | MODIFIED | DELETED, object), beginning with what is there. Ends when kubectl does."""
        process = await asyncio.create_subprocess_exec(
            *self.command("get", kind, *arguments, "-n", namespace, "-o", "json", "--watch", "--output-watch-events"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            assert process.stdout is not None
            # A chunk may end within a character.
            decoder, characters, buffer = json.JSONDecoder(), codecs.getincrementaldecoder("utf-8")(), ""
            while chunk := await process.stdout.read(1 << 16):
                buffer += characters.decode(chunk)
                while buffer := buffer.lstrip():
                    try:
                        event, end = decoder.raw_decode(buffer)
                    except json.JSONDecodeError:
                        break
                    buffer = buffer[end:]
                    yield event["type"], event["object"]
            await process.wait()
        finally:
            await commands.kill(process)

    async def until(
        self,
        kind: str,
        name: str,
        namespace: str,
        holds: Callable[[Object], bool],
        *,
        timeout: float = 120.0,
        what: str = "",
    ) -> Object:
        """The object as soon as `holds(object)`; it may also not exist yet. Raises NotYet with its last conditions."""
        last: Object | None = None

        async def wait() -> Object:
            nonlocal last
            while True:
                async with contextlib.aclosing(
                    self.watch(kind, namespace, "--field-selector", f"metadata.name={name}")
                ) as events:
                    async for type_, seen in events:
                        last = None if type_ == "DELETED" else seen
                        if last is not None and holds(last):
                            return last
                await asyncio.sleep(0.5)  # the watch ended (API server away): begin another

        try:
            return await asyncio.wait_for(wait(), timeout)
        except TimeoutError:
            awaited = what or "the awaited state"
            raise NotYet(
                f"{kind} {namespace}/{name}: {awaited} not seen in {timeout:.0f} s: {describe(last)}"
            ) from None

    async def until_ready(self, kind: str, name: str, namespace: str, *, timeout: float = 120.0) -> Object:
        """Ready is True and speaks of the present generation."""
        return await self.until(kind, name, namespace, is_ready, timeout=timeout, what="Ready")

    async def until_gone(self, kind: str, name: str, namespace: str, *, timeout: float = 120.0) -> None:
        await self.run(
            "wait", "--for=delete", f"{kind}/{name}", "-n", namespace, f"--timeout={timeout:.0f}s", timeout=timeout + 60
        )

    async def until_none(self, kind: str, namespace: str, selector: str, *, timeout: float = 120.0) -> None:
        """None of those there now is there any more."""
        if await self.list(kind, namespace, selector):
            await self.run(
                *("wait", "--for=delete", kind, "-l", selector, "-n", namespace),
                f"--timeout={timeout:.0f}s",
                timeout=timeout + 60,
            )


def condition(seen: Object, type_: str) -> Object:
    """The condition of that type, or an empty one."""
    conditions: Sequence[Object] = seen.get("status", {}).get("conditions", ())
    return next((entry for entry in conditions if entry["type"] == type_), {})


def is_ready(seen: Object) -> bool:
    ready = condition(seen, "Ready")
    return ready.get("status") == "True" and ready.get("observedGeneration") == seen["metadata"].get("generation")


def describe(seen: Object | None) -> str:
    """What an object's status says, in one line."""
    if seen is None:
        return "it is not there"
    said = [
        f"{c['type']}={c['status']} {c.get('reason', '')}: {c.get('message', '')}"
        for c in seen.get("status", {}).get("conditions", ())
    ]
    return "last seen: " + ("; ".join(said) or f"status {json.dumps(seen.get('status', {}))[:400]}")


def _object(text: str) -> Object:
    parsed = json.loads(text)
    assert isinstance(parsed, dict)
    return parsed
