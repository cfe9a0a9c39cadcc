"""Finds the base model's files once they are complete: they may still be on their way when the agent starts."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from pathlib import Path

from .errors import AdapterError
from .facts import Base
from .inspect.base import BaseModel, read_base
from .settings import BaseLocation

LOOK_SECONDS = 0.25
"""Between looks for a model that is not there yet; the download takes minutes, adapters wait for its end."""

log = logging.getLogger(__name__)


class BaseFinder:
    """Waits for the base model and reads it. With an engine that is up the model is complete: what cannot be seen then
    never will be.
    """

    def __init__(self, location: BaseLocation, *, progress_file: Path | None, engine_ready: Callable[[], bool]) -> None:
        self._location = location
        self._progress_file = progress_file
        self._engine_ready = engine_ready

    async def find(self) -> tuple[Base, BaseModel | None]:
        """The base model, or Unseen when adapters must be inspected without it."""
        while True:
            ready = self._engine_ready()
            folder = await asyncio.to_thread(self._folder, ready)
            if folder is not None:
                try:
                    model = await asyncio.to_thread(read_base, folder, name=self._location.hf_model)
                except AdapterError as error:
                    if ready or error.permanent:
                        log.warning("adapters are inspected without the base model", extra={"detail": error.message})
                        return Base.UNSEEN, None
                else:
                    log.info("base model read", extra={"folder": str(folder), "modules": len(model.shapes)})
                    return Base.KNOWN, model
            elif ready:
                log.warning(
                    "adapters are inspected without the base model", extra={"detail": "its files are not to be seen"}
                )
                return Base.UNSEEN, None
            await asyncio.sleep(LOOK_SECONDS)

    def _folder(self, ready: bool) -> Path | None:
        """The folder that is complete by now; None while nobody says so."""
        location = self._location
        if location.model_dir is not None:
            complete = ready or (
                self._fetched() if self._progress_file else (location.model_dir / "config.json").exists()
            )
            return location.model_dir if complete else None
        if location.hf_home is None or not location.hf_model or not ready:
            return None
        return snapshot_of(location.hf_home, location.hf_model, location.hf_revision or "main")

    def _fetched(self) -> bool:
        try:
            return bool(json.loads((self._progress_file or Path()).read_text()).get("state") == "done")
        except (OSError, ValueError, AttributeError):
            return False


def snapshot_of(hf_home: Path, model: str, revision: str) -> Path | None:
    """The folder of one revision in a Hugging Face cache, None when it is not there."""
    repository = hf_home / "hub" / f"models--{model.replace('/', '--')}"
    reference = repository / "refs" / revision
    try:
        commit = reference.read_text().strip() if reference.is_file() else revision
    except OSError:
        return None
    folder = repository / "snapshots" / commit
    return folder if (folder / "config.json").is_file() else None
