"""Every registered method resolves, cites its source, shows its evidence and stands in the docs."""

import re
from dataclasses import is_dataclass
from pathlib import Path

import pytest

from jeton.core.registry import Registry, Row
from jeton.report.catalogue import FAMILIES, all_rows

REPOSITORY = Path(__file__).resolve().parents[2]
ROWS = [
    pytest.param(registry, name, registry.rows[name], id=f"{registry.family}-{name}")
    for registry in FAMILIES
    for name in sorted(registry.rows)
]
_PATH = re.compile(r"\b(?:tests|bench|docs|recipes)/[\w./-]+")


@pytest.mark.parametrize(("registry", "name", "row"), ROWS)
def test_row_resolves_to_a_class_of_its_own_file(registry: Registry, name: str, row: Row) -> None:
    method = registry.load(name)
    assert isinstance(method, type)
    assert is_dataclass(method), "options are the fields of a dataclass"
    module, _, attribute = row.target.partition(":")
    assert module.rpartition(".")[2] == name, "the file has the name of the row"
    assert method.__name__ == attribute
    assert method.__module__ == module
    assert method.__doc__


@pytest.mark.parametrize(("registry", "name", "row"), ROWS)
def test_row_cites_its_source(registry: Registry, name: str, row: Row) -> None:
    assert row.paper.title
    assert 1900 < row.paper.year < 2100
    if row.paper.url.startswith("docs/"):
        assert (REPOSITORY / row.paper.url).is_file()
    else:
        assert re.fullmatch(r"https://[\w.-]+/\S+", row.paper.url)
    assert row.summary
    assert row.cost


@pytest.mark.parametrize(("registry", "name", "row"), ROWS)
def test_evidence_exists(registry: Registry, name: str, row: Row) -> None:
    named = _PATH.findall(row.evidence)
    assert named, f"{row.evidence!r} names no test, bench or golden file"
    missing = [path for path in named if not (REPOSITORY / path.split("::")[0]).exists()]
    assert not missing


@pytest.mark.parametrize(("registry", "name", "row"), ROWS)
def test_row_has_its_line_in_the_papers_page(registry: Registry, name: str, row: Row) -> None:
    page = (REPOSITORY / "docs" / "papers.md").read_text(encoding="utf-8")
    lines = [line for line in page.splitlines() if line.startswith(f"| `{name}` |")]
    assert any(row.paper.title in line and str(row.verified) in line for line in lines)


def test_every_registry_of_the_package_is_in_the_catalogue() -> None:
    found = set()
    for path in sorted((REPOSITORY / "src" / "jeton").rglob("registry.py")):
        found |= set(
            re.findall(r"^([A-Z_]+) = Registry\(", path.read_text(encoding="utf-8"), re.MULTILINE)
        )
    assert len(found) == len(FAMILIES), f"{sorted(found)} against {len(FAMILIES)} families"
    assert len({registry.family for registry in FAMILIES}) == len(FAMILIES)


@pytest.mark.parametrize("registry", FAMILIES, ids=lambda registry: registry.family)
def test_default_is_a_method(registry: Registry) -> None:
    assert registry.default == "" or registry.default in registry.rows


def test_catalogue_lists_every_row_once() -> None:
    names = [(row["family"], row["name"]) for row in all_rows()]
    assert len(names) == len(set(names)) == sum(len(registry.rows) for registry in FAMILIES)
