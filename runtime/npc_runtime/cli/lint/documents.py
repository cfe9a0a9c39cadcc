"""The documents of a file as the API server's strict decoding reads them."""

from __future__ import annotations

from typing import Any

import yaml


class NoDocuments(Exception):
    """The text cannot be read; the message says why and in which line, for people."""


class _Strict(yaml.SafeLoader):
    """YAML in which a key that is there twice is a fault: the library takes the last one without a word, kubectl and
    the API server refuse it.
    """

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                continue
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"{key.value} is there twice", problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


def read_documents(text: str) -> list[Any]:
    """All documents that hold something. Raises NoDocuments."""
    try:
        return [one for one in yaml.load_all(text, Loader=_Strict) if one is not None]
    except yaml.MarkedYAMLError as error:
        if "{{" in text:
            raise NoDocuments("is a template and no manifest: helm template CHART | kubectl npc lint -") from None
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark is not None else ""
        raise NoDocuments(f"cannot be read: {line}{error.problem}") from None
    except yaml.YAMLError as error:
        raise NoDocuments(f"is no YAML: {' '.join(str(error).split())}") from None
