"""All test models in one folder: `base` and one folder per adapter, with their digests."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hack.models.adapters import ADAPTERS, make_adapter
from hack.models.base import make_base
from hack.models.digest import digest_of, served_name
from hack.models.tensors import make_directory


@dataclass(frozen=True, slots=True)
class Catalog:
    """Where the models are. Adapters go by their names: `vampire-v1`, `zombie-v2`, ..."""

    directory: Path
    digests: Mapping[str, str]

    @property
    def base(self) -> Path:
        """The base model's folder."""
        return self.directory / "base"

    def adapter(self, name: str) -> Path:
        """An adapter's folder; raises KeyError for a name that is not in the catalog."""
        self.digests[name]
        return self.directory / name

    def served_name(self, name: str) -> str:
        """The name an engine serves this adapter under."""
        return served_name(name.partition("-")[0], self.digests[name])


def make_catalog(directory: Path) -> Catalog:
    """Write the base model and every adapter below `directory` (half a second); the bytes are the same every time."""
    make_directory(directory)
    make_base(directory / "base")
    return Catalog(
        directory, {adapter.name: digest_of(make_adapter(directory / adapter.name, adapter)) for adapter in ADAPTERS}
    )
