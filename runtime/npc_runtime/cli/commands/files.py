"""digest and lint: commands that need no cluster."""

from __future__ import annotations

from pathlib import Path

from ..answers import Answer, Block, Cell, Code, Lines, Table, Tone, line, text
from ..ports import CliError
from .session import Session

SUFFIXES = (".yaml", ".yml", ".json")
NOT_CHECKED = "CEL rules ({count} on these kinds) and references to other objects are checked by the cluster alone:"
ASK_SERVER = "kubectl apply --dry-run=server -f {path}"


def run_digest(session: Session) -> Code:
    """The digest of an adapter's folder, as source.digest wants it."""
    from ...agent.digest import digest_of_folder
    from ...agent.errors import AdapterError

    folder = Path(session.option("path"))
    if not folder.is_dir():
        raise CliError(f"{folder} is no folder", Code.NOT_FOUND)
    try:
        digest = digest_of_folder(folder)
    except AdapterError as error:
        raise CliError(f"{folder} has no digest: {error.reason}: {error.message}", Code.NOT_AS_WANTED) from None
    except OSError as error:
        raise CliError(f"{folder} cannot be read: {error}", Code.NOT_FOUND) from None
    session.console.show(Answer({"digest": digest}, (text(digest),)))
    return Code.FINE


def run_lint(session: Session) -> Code:
    """Manifests against the schemas, or an adapter's folder by the agent's own inspection."""
    from ..lint.folders import is_adapter

    given = session.option("path")
    path = Path(given)
    if given != "-" and not path.exists():
        raise CliError(f"there is no {given}", Code.NOT_FOUND)
    answer = (
        _lint_folder(session, path) if path.is_dir() and is_adapter(path) else _lint_manifests(session, given, path)
    )
    session.console.show(answer)
    return answer.code


def _lint_folder(session: Session, folder: Path) -> Answer:
    from ..lint.folders import as_data, inspect_folder

    base = session.option("base")
    verdict = inspect_folder(folder, max_rank=session.option("max_rank"), base=Path(base) if base else None)
    lines = []
    if verdict.reason:
        lines.append(line(Cell("refused", Tone.BAD), f": {verdict.reason}: {verdict.message}"))
    else:
        lines.append(line(f"digest {verdict.digest}"))
        lines.append(line(f"rank {verdict.rank} (at most {session.option('max_rank')}), {verdict.bytes} bytes"))
        if verdict.compared:
            lines.append(line(Cell("an agent would load it", Tone.GOOD)))
        else:
            lines.append(
                line(Cell("undecided", Tone.BUSY), ": not compared with a base model; name the tier's with --base DIR")
            )
    if verdict.note and verdict.compared:
        lines.append(line(f"note: {verdict.note}"))
    code = Code.FINE if verdict.loads() else Code.NOT_AS_WANTED
    return Answer(as_data(verdict), (Lines(tuple(lines)),), code)


def _lint_manifests(session: Session, given: str, path: Path) -> Answer:
    from ..lint.manifests import lint_text, merge

    if given == "-":
        report = lint_text("-", session.console.inp.read())
    else:
        files = sorted(one for one in path.rglob("*") if one.suffix in SUFFIXES) if path.is_dir() else [path]
        if not files:
            raise CliError(f"{given} holds neither manifests ({', '.join(SUFFIXES)}) nor an adapter", Code.NOT_FOUND)
        report = merge(lint_text(str(file), _read(file), named=file == path) for file in files)
    if not report.objects and not report.foreign and not report.faults:
        # A pipe whose other end failed must not pass for manifests without a fault.
        raise CliError(f"{'standard input' if given == '-' else given} holds no manifest", Code.NOT_FOUND)
    rows = tuple(
        (Cell(fault.source), Cell(fault.object), Cell(fault.path), Cell(fault.message, Tone.BAD))
        for fault in report.faults
    )
    blocks: list[Block] = []
    if rows:
        blocks.append(Table("", ("FILE", "OBJECT", "FIELD", "FAULT"), rows))
    count = f"{_many(len(report.objects), 'object')}, {_many(len(report.faults), 'fault')}"
    if report.foreign:
        count += f"; left alone: {_many(report.foreign, 'document')} of other kinds"
    blocks.append(text(count))
    if report.rules:
        blocks.append(text(NOT_CHECKED.format(count=report.rules), f"  {ASK_SERVER.format(path=given)}"))
    data = {
        "objects": list(report.objects),
        "foreign": report.foreign,
        "uncheckedRules": report.rules,
        "faults": [
            {"source": one.source, "object": one.object, "path": one.path, "message": one.message}
            for one in report.faults
        ],
    }
    return Answer(data, tuple(blocks), Code.NOT_AS_WANTED if report.faults else Code.FINE)


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CliError(f"{file} cannot be read: {error}", Code.NOT_FOUND) from None


def _many(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"
