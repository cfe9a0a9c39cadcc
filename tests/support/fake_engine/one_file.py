"""The package as one file, for a pod that has Python and aiohttp and nothing of this checkout.

The modules are put one after the other, each without its docstring and its imports of the others: so a name may be
defined in one of them only, and imported by no other name. `python -m tests.support.fake_engine.one_file` prints it.
"""

from __future__ import annotations

import ast
from pathlib import Path

PACKAGE = "tests.support.fake_engine"
_FOLDER = Path(__file__).parent
_MODULES = (
    "words",
    "behaviour",
    "slots",
    "metrics",
    "bodies",
    "loading",
    "chat",
    "answering",
    "engine",
    "process",
)
_HEAD = '''"""A fake vLLM in one file, made from the package tests/support/fake_engine, which says what it does."""

from __future__ import annotations

'''
_TAIL = """

if __name__ == "__main__":
    main()
"""


def one_file() -> str:
    """Source that runs as `python3 FILE --port=... --fake-...`, also as vllm/entrypoints/openai/api_server.py."""
    return _HEAD + "\n\n".join(_body_of((_FOLDER / f"{module}.py").read_text()) for module in _MODULES) + _TAIL


def _body_of(source: str) -> str:
    """A module without its docstring, its `__future__` and what it imports from the package."""
    lines = source.splitlines()
    dropped: set[int] = set()
    for index, node in enumerate(ast.parse(source).body):
        is_docstring = index == 0 and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if is_docstring or (isinstance(node, ast.ImportFrom) and _is_ours(node.module or "")):
            dropped.update(range(node.lineno - 1, node.end_lineno or node.lineno))
    return "\n".join(line for number, line in enumerate(lines) if number not in dropped).strip("\n")


def _is_ours(module: str) -> bool:
    return module == "__future__" or module == PACKAGE or module.startswith(f"{PACKAGE}.")


if __name__ == "__main__":
    print(one_file(), end="")
