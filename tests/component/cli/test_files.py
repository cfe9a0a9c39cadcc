"""digest and lint: what can be known without a cluster, and what cannot is said."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from npc_runtime.cli.__main__ import main
from npc_runtime.cli.answers import Code
from tests.support import builders
from tests.unit.agent.makers import config_of, lora_tensors, make_adapter, make_base

ROOT = Path(__file__).resolve().parents[3]


def lint(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = main(["lint", *words])
    return code, capsys.readouterr().out


def write(folder: Path, *objects: object) -> str:
    path = folder / "objects.yaml"
    path.write_text(yaml.safe_dump_all(objects))
    return str(path)


def test_the_digest_is_that_of_coreutils(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_adapter(tmp_path / "a")
    command = r"find . -type f -printf '%P\0' | LC_ALL=C sort -z | xargs -0r sha256sum -- | sha256sum"
    theirs = subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, text=True, check=True).stdout
    assert main(["digest", str(folder)]) == Code.FINE
    assert capsys.readouterr().out == f"sha256:{theirs.split()[0]}\n"


def test_a_folder_without_a_digest_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_adapter(tmp_path / "a")
    (folder / "link").symlink_to("/etc/passwd")
    assert main(["digest", str(folder)]) == Code.NOT_AS_WANTED
    assert "Symlink: 'link' is a symbolic link" in capsys.readouterr().err
    assert main(["digest", str(tmp_path / "none")]) == Code.NOT_FOUND


def test_the_projects_own_examples_are_clean(capsys: pytest.CaptureFixture[str]) -> None:
    code, said = lint(capsys, str(ROOT / "examples"))
    assert code == Code.FINE
    assert "8 objects, 0 faults" in said
    assert "checked by the cluster alone" in said
    assert "kubectl apply --dry-run=server" in said


FAULTS: dict[str, tuple[dict[str, Any], str, str]] = {
    "an unknown field": (builders.tier(spec={"replica": 2}), "spec", "has no field called replica"),
    "a wrong type": (builders.tier(spec={"replicas": "two"}), "spec.replicas", "must be of type integer, not 'two'"),
    "a value that is too high": (builders.adapter(rank=600), "spec.variants[0].rank", "must be at most 512, not 600"),
    "a value that is none of those": (builders.tier(spec={"quality": "Best"}), "spec.quality", "must be one of"),
    "a digest that is none": (
        builders.adapter(digests={"gold": "sha256:123"}),
        "spec.variants[0].source.digest",
        "must match",
    ),
    "a tier named twice": (
        builders.region(
            spec={
                "tiers": [
                    {"tier": "gold", "npcs": {"min": 1, "max": 2}},
                    {"tier": "gold", "npcs": {"min": 1, "max": 2}},
                ]
            }
        ),
        "spec.tiers[1]",
        "is there twice: another entry has the same tier",
    ),
    "a version that is not there": (
        builders.tier() | {"apiVersion": "npcfleet.dev/v2"},
        "kind",
        "npcfleet.dev/v2 GpuTier is not known",
    ),
    "a name that the API server does not take": (
        builders.tier("Gold_X"),
        "metadata.name",
        "must be lower case letters, digits, - and ., not 'Gold_X'",
    ),
    "an object without a spec": (
        {"apiVersion": "npcfleet.dev/v1alpha1", "kind": "GpuTier", "metadata": {"name": "x"}},
        "",
        "needs spec",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_told_with_the_path_of_its_field(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document, path, message = FAULTS[name]
    code, said = lint(capsys, write(tmp_path, document), "-o", "json")
    assert code == Code.NOT_AS_WANTED
    (fault,) = json.loads(said)["faults"]
    assert fault["path"] == path
    assert message in fault["message"]


def test_what_is_not_ours_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = lint(capsys, write(tmp_path, {"kind": "ConfigMap", "apiVersion": "v1"}, builders.tier()))
    assert code == Code.FINE
    assert "1 object, 0 faults; left alone: 1 document of other kinds" in said


def test_data_that_lies_beside_manifests_is_left_alone_unless_it_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, builders.tier())
    (tmp_path / "questions.json").write_text('["Who are you?"]')
    code, said = lint(capsys, str(tmp_path))
    assert (code, said.splitlines()[0]) == (
        Code.FINE,
        "1 object, 0 faults; left alone: 1 document of other kinds",
    )
    code, said = lint(capsys, str(tmp_path / "questions.json"))
    assert code == Code.NOT_AS_WANTED
    assert "is no object" in said


def test_lists_are_looked_into_and_stdin_is_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = {"apiVersion": "v1", "kind": "List", "items": [builders.tier(), builders.adapter(rank=0)]}
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(listed)))
    code, said = lint(capsys, "-")
    assert code == Code.NOT_AS_WANTED
    assert "ArchetypeAdapter/vampire   spec.variants[0].rank   must be at least 1, not 0" in said


def test_what_is_no_yaml_is_a_fault_and_no_crash(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("a: [1")
    code, said = lint(capsys, str(path))
    assert code == Code.NOT_AS_WANTED
    assert "cannot be read: line 1: " in said
    path.write_bytes(b"a: \x01\n")
    assert "is no YAML: " in lint(capsys, str(path))[1]


def test_a_key_that_is_there_twice_is_a_fault_as_with_kubectl(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "tier.yaml"
    path.write_text(
        yaml.safe_dump(builders.tier()).replace("  quality: Gold\n", "  quality: Gold\n  quality: Silver\n")
    )
    code, said = lint(capsys, str(path))
    assert code == Code.NOT_AS_WANTED
    assert "quality is there twice" in said
    path.write_text("x: &x {a: 1}\ny: {<<: *x, a: 2}\n")
    assert lint(capsys, str(path))[0] == Code.FINE


def test_a_template_is_said_to_be_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "tier.yaml"
    path.write_text("{{- range .Values.tiers }}\nkind: GpuTier\n{{- end }}\n")
    code, said = lint(capsys, str(path))
    assert code == Code.NOT_AS_WANTED
    assert "is a template and no manifest: helm template CHART | kubectl npc lint -" in said


@pytest.mark.parametrize("content", ["", "---\n", "# nothing\n"])
def test_a_pipe_whose_other_end_failed_does_not_pass(
    content: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(content))
    assert main(["lint", "-"]) == Code.NOT_FOUND
    assert capsys.readouterr().err == "error: standard input holds no manifest\n"


def test_an_adapter_that_an_agent_would_load_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, folder = make_base(tmp_path / "base"), make_adapter(tmp_path / "a", rank=8)
    code, said = lint(capsys, str(folder), "--base", str(base), "--max-rank", "8")
    assert code == Code.FINE
    assert "an agent would load it" in said
    assert "rank 8 (at most 8)" in said


def test_without_its_base_model_nothing_is_promised(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = lint(capsys, str(make_adapter(tmp_path / "a")))
    assert code == Code.NOT_AS_WANTED
    assert "undecided: not compared with a base model" in said


@pytest.mark.parametrize(
    ("spoil", "words", "reason"),
    [
        (lambda folder: (folder / "run.py").write_text("print()"), (), "ForbiddenFile"),
        (lambda folder: (folder / "adapter_config.json").unlink(), (), "MissingFile"),
        (lambda folder: None, ("--max-rank", "4"), "RankTooHigh"),
        (
            lambda folder: (folder / "adapter_config.json").write_text(json.dumps(config_of(use_dora=True))),
            (),
            "UnsupportedFeature",
        ),
    ],
)
def test_an_adapter_is_refused_with_the_agents_own_reason(
    spoil: Any, words: tuple[str, ...], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, folder = make_base(tmp_path / "base"), make_adapter(tmp_path / "a", rank=8)
    spoil(folder)
    code, said = lint(capsys, str(folder), "--base", str(base), *words)
    assert code == Code.NOT_AS_WANTED
    assert said.startswith(f"refused: {reason}: ")


def test_an_adapter_of_another_base_model_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, folder = make_base(tmp_path / "base"), make_adapter(tmp_path / "a", tensors=lora_tensors(hidden=64))
    code, said = lint(capsys, str(folder), "--base", str(base))
    assert code == Code.NOT_AS_WANTED
    assert "BaseMismatch" in said


def test_a_path_that_is_not_there_ends_with_4(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lint", "/nowhere"]) == Code.NOT_FOUND


@pytest.mark.parametrize("words", [["--help"], ["completion", "bash"], ["__complete", ""], ["digest", "{folder}"]])
def test_what_needs_no_cluster_imports_no_client(words: list[str], tmp_path: Path) -> None:
    folder = make_adapter(tmp_path / "a")
    words = [word.format(folder=folder) for word in words]
    script = (
        "import sys\nfrom npc_runtime.cli.__main__ import main\n"
        f"try:\n    main({words!r})\nexcept SystemExit:\n    pass\n"
        "print(sorted({'kubernetes', 'jsonschema', 'numpy', 'yaml', 'pydantic'} & set(sys.modules)), file=sys.stderr)"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stderr == "[]\n"
