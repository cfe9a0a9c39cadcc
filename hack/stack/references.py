"""What every adapter must answer, said by a lone vLLM: the yardstick for each line that the fleet serves.

The lone engine has the same packages and flags as the fleet's and holds one adapter per name, so whatever operator,
agent and gateway do wrong (another adapter, a mixture, a cut) shows as another text. Its answers depend on nothing else
than what the cache's key is made of; they are asked once. `python -m hack.stack.references` prints the cached file.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hack.models.catalog import Catalog, make_catalog
from hack.models.digest import digest_of
from hack.models.engine_flags import ENGINE_ARGS, ENGINE_ENV
from hack.models.environment import LOCK, cache_root
from hack.models.margins import MARGIN, PROMPTS
from hack.models.reference import LoneEngine
from hack.stack import commands

LENGTHS = (8, 16, 32)
"""Values of max_tokens that answers are known for."""

_FORMAT = 1


class NearTie(Exception):
    """An answer hangs on less than the margin: two correct engines could differ, so it proves nothing."""


@dataclass(frozen=True, slots=True)
class References:
    """Whole answers by (adapter such as `vampire-v1`, prompt, max_tokens)."""

    digests: Mapping[str, str]
    """Adapter -> `sha256:...`."""
    texts: Mapping[tuple[str, str, int], str]

    def text(self, adapter: str, prompt: str, max_tokens: int) -> str:
        """The answer; KeyError if nobody asked the lone engine for it (see PROMPTS and LENGTHS)."""
        return self.texts[adapter, prompt, max_tokens]

    def expected(self, prompt: str, max_tokens: int) -> dict[tuple[str, str], str]:
        """(archetype, digest) -> text, as `Tally.mixed` takes it."""
        return {
            (name.partition("-")[0], digest): self.text(name, prompt, max_tokens)
            for name, digest in self.digests.items()
        }

    def version(self, digest: str) -> str:
        """The adapter's name for a digest; the digest itself if it is none of ours."""
        return next((name for name, known in self.digests.items() if known == digest), digest or "(no digest)")


async def references(catalog: Catalog) -> References:
    """Cached answers, or those of a lone engine (half a minute) when something they depend on is new."""
    path = _path(catalog)
    if not path.exists():
        path = Path((await commands.run_tool("hack.stack.references")).strip())
    return _read(catalog, path)


def _path(catalog: Catalog) -> Path:
    depends_on = {
        "format": _FORMAT,
        "base": digest_of(catalog.base),
        "adapters": dict(sorted(catalog.digests.items())),
        "prompts": PROMPTS,
        "lengths": LENGTHS,
        "packages": hashlib.sha256(LOCK.read_bytes()).hexdigest(),
        "flags": [ENGINE_ARGS, sorted(ENGINE_ENV.items())],
    }
    key = hashlib.sha256(json.dumps(depends_on).encode()).hexdigest()[:16]
    return cache_root() / "references" / f"{key}.json"


def _read(catalog: Catalog, path: Path) -> References:
    rows = json.loads(path.read_text())
    return References(
        {name: f"sha256:{digest}" for name, digest in catalog.digests.items()},
        {(row["adapter"], row["prompt"], row["max_tokens"]): row["text"] for row in rows},
    )


def _ask_all(catalog: Catalog, path: Path) -> None:
    """Ask a lone engine and write the file whole or not at all. Raises NearTie, LoneEngineError."""
    rows: list[dict[str, object]] = []
    with LoneEngine(catalog.base) as engine:
        for name in catalog.digests:
            engine.load(name, catalog.adapter(name))
            for prompt in PROMPTS:
                lead = engine.lead(name, prompt, max_tokens=max(LENGTHS))
                # Half the margin: the engine's own account is of the same weights, but of other arithmetic.
                if lead < MARGIN / 2:
                    raise NearTie(f"{name} answers {prompt!r} with a lead of only {lead:.4f}")
                rows += [
                    {
                        "adapter": name,
                        "prompt": prompt,
                        "max_tokens": length,
                        "text": engine.ask(name, prompt, max_tokens=length),
                    }
                    for length in LENGTHS
                ]
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps(rows, indent=1))
    temporary.rename(path)


def main() -> int:
    """Make sure the file is there and print its path."""
    catalog = make_catalog(cache_root() / "models")
    path = _path(catalog)
    if not path.exists():
        print("==> asking a lone vLLM what each adapter answers (about half a minute)", file=sys.stderr, flush=True)
        _ask_all(catalog, path)
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
