"""The contributor's documents name files, classes and functions that are there, and no test file is left out."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import yaml

from tests.docs.blocks import ROOT, read

DECISIONS = [f"docs/decisions/{path.name}" for path in sorted((ROOT / "docs" / "decisions").glob("*.md"))]
DOCUMENTS = ["CONTRIBUTING.md", "docs/tests.md", *DECISIONS]
QUOTED = re.compile(r"`([^`\n]+)`")
PATH = re.compile(r"\.?[\w-]+(?:/[\w.-]+)*(?:/|\.(?:py|md|yaml|toml))")
NAME = re.compile(r"([\w/.-]+\.py):([\w.]+)")
LINK = re.compile(r"\]\((?!https?:)([^)#]+)[^)]*\)")


def quoted(document: str) -> list[str]:
    return QUOTED.findall(read(document))


def defines(body: list[ast.stmt], name: str) -> ast.stmt | None:
    """The statement of a body that defines a name."""
    for node in body:
        match node:
            case ast.ClassDef() | ast.FunctionDef() if node.name == name:
                return node
            case ast.AnnAssign(target=ast.Name(id=found)) if found == name:
                return node
            case ast.Assign(targets=targets) if name in {t.id for t in targets if isinstance(t, ast.Name)}:
                return node
    return None


def is_defined(path: Path, dotted: str) -> bool:
    body = ast.parse(path.read_text(encoding="utf-8")).body
    for name in dotted.split("."):
        node = defines(body, name)
        if node is None:
            return False
        body = node.body if isinstance(node, ast.ClassDef) else []
    return True


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_path_that_is_named_exists(document: str) -> None:
    paths = [text for text in quoted(document) if PATH.fullmatch(text)]

    assert [path for path in paths if not (ROOT / path).exists() and path != "file.py"] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_class_function_and_constant_that_is_named_is_defined_in_its_file(document: str) -> None:
    named = [match.groups() for text in quoted(document) if (match := NAME.fullmatch(text)) and text != "file.py:name"]

    assert [f"{path}:{name}" for path, name in named if not is_defined(ROOT / path, name)] == []


def test_the_recipes_name_what_they_change() -> None:
    """Else the tests above would show nothing."""
    _, *recipes = read("CONTRIBUTING.md").split("\n### ")

    assert len(recipes) == 8
    assert all(len(NAME.findall(recipe)) >= 4 and "tests/" in recipe for recipe in recipes)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str) -> None:
    missing = [link for link in LINK.findall(read(document)) if not (ROOT / document).parent.joinpath(link).exists()]

    assert missing == []


def test_make_has_every_command_that_is_named() -> None:
    makefile = read("Makefile")
    targets = set(re.findall(r"`make (\w+)", read("CONTRIBUTING.md")))

    assert {"install", "quick", "test", "lint"} <= targets
    assert [target for target in targets if f"\n{target}:" not in makefile] == []


def test_every_test_file_has_its_row() -> None:
    """Once, so that a promise leads to the files that hold it and a file to its promise."""
    there = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("test_*.py"))

    assert sorted(re.findall(r"^\| .+ \| `(tests/\S+)` \|$", read("docs/tests.md"), re.MULTILINE)) == there


def test_every_decision_is_in_the_list_of_decisions() -> None:
    listed = LINK.findall(read("docs/decisions/README.md"))

    assert sorted(listed) == [name.rpartition("/")[2] for name in DECISIONS if not name.endswith("README.md")]


@pytest.mark.parametrize("document", [name for name in DECISIONS if not name.endswith("README.md")])
def test_a_decision_has_its_three_parts(document: str) -> None:
    assert re.findall(r"^## (.+)$", read(document), re.MULTILINE) == ["Context", "Decision", "Consequences"]
    assert len(read(document).splitlines()) <= 60


def test_hooks_run_tools_of_the_virtual_environment_only() -> None:
    """No hook downloads anything."""
    repos = yaml.safe_load(read(".pre-commit-config.yaml"))["repos"]

    assert [repo["repo"] for repo in repos] == ["local"]
    assert all(hook["entry"].startswith(".venv/bin/") and hook["language"] == "system" for hook in repos[0]["hooks"])
