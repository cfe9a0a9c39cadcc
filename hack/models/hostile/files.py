"""Adapters with a file too few, a file too many, or a file under a name that means something to somebody."""

import pickle
import zipfile
from pathlib import Path

from hack.models.adapters import Adapter, make_adapter
from hack.models.base import BaseModel

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"

OVERSIZE_BYTES = 64 << 30
"""Bytes an oversize adapter claims to have; its file is sparse and takes no room on the disk."""


def make_sound(directory: Path, base: BaseModel) -> Path:
    """A valid adapter: what the others start from."""
    return make_adapter(directory, Adapter("hostile", "zombie", 666), base)


def make_missing_config(directory: Path, base: BaseModel) -> Path:
    """No adapter_config.json."""
    (make_sound(directory, base) / CONFIG).unlink()
    return directory


def make_missing_weights(directory: Path, base: BaseModel) -> Path:
    """No adapter_model.safetensors."""
    (make_sound(directory, base) / WEIGHTS).unlink()
    return directory


def make_extra_pickle(directory: Path, base: BaseModel) -> Path:
    """A pickle beside sound weights; loading it would print a word."""
    return _with_file(directory, base, "training_args.pkl", _pickle_bytes())


def make_extra_bin(directory: Path, base: BaseModel) -> Path:
    """The same weights in PyTorch's pickled form, which some loaders prefer."""
    return _with_file(directory, base, "adapter_model.bin", _pickle_bytes())


def make_extra_pt(directory: Path, base: BaseModel) -> Path:
    """A torch checkpoint: a zip with a pickle inside."""
    path = make_sound(directory, base) / "optimizer.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("optimizer/data.pkl", _pickle_bytes())
    path.chmod(0o644)
    return directory


def make_extra_python(directory: Path, base: BaseModel) -> Path:
    """Code of its own, as models with trust_remote_code bring it."""
    return _with_file(directory, base, "modeling_custom.py", b"print('loaded')\n")


def make_extra_shared_object(directory: Path, base: BaseModel) -> Path:
    """The beginning of an ELF library."""
    return _with_file(directory, base, "kernels.so", b"\x7fELF\x02\x01\x01" + bytes(57))


def make_pickle_called_text(directory: Path, base: BaseModel) -> Path:
    """A pickle under the name of a harmless text."""
    return _with_file(directory, base, "README.md", _pickle_bytes())


def make_symlink(directory: Path, base: BaseModel) -> Path:
    """A text that is a link to a file outside the adapter."""
    (make_sound(directory, base) / "README.md").symlink_to("/etc/hostname")
    return directory


def make_symlinked_folder(directory: Path, base: BaseModel) -> Path:
    """A folder that is a link to one outside the adapter."""
    (make_sound(directory, base) / "docs").symlink_to("/etc", target_is_directory=True)
    return directory


def make_space_in_name(directory: Path, base: BaseModel) -> Path:
    """A name outside [A-Za-z0-9._/-]."""
    return _with_file(directory, base, "read me.md", b"hello\n")


def make_reserved_name(directory: Path, base: BaseModel) -> Path:
    """A name that is a device on Windows."""
    return _with_file(directory, base, "CON.txt", b"hello\n")


def make_backslash_in_name(directory: Path, base: BaseModel) -> Path:
    """A name that climbs out of its folder where backslashes separate."""
    return _with_file(directory, base, "..\\..\\evil.txt", b"hello\n")


def make_two_spellings(directory: Path, base: BaseModel) -> Path:
    """Two names that are one where case does not count."""
    _with_file(directory, base, "notes.txt", b"one\n")
    return _add(directory, "NOTES.txt", b"another\n")


def make_oversize(directory: Path, base: BaseModel) -> Path:
    """Weights of OVERSIZE_BYTES, nearly all of them a hole."""
    with (make_sound(directory, base) / WEIGHTS).open("r+b") as file:
        file.truncate(OVERSIZE_BYTES)
    return directory


def _with_file(directory: Path, base: BaseModel, name: str, content: bytes) -> Path:
    return _add(make_sound(directory, base), name, content)


def _add(directory: Path, name: str, content: bytes) -> Path:
    path = directory / name
    path.write_bytes(content)
    path.chmod(0o644)
    return directory


class _Loud:
    """Runs code when it is unpickled, as hostile pickles do; this one only prints."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("a pickle was loaded",)


def _pickle_bytes() -> bytes:
    return pickle.dumps(_Loud(), protocol=2)
