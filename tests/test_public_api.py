"""The names that users import from ``edgevlm``."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

import edgevlm
from edgevlm import errors

PUBLIC = [name for name in edgevlm.__all__ if name != "__version__"]


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_resolves_to_the_object_of_that_name(name: str):
    assert getattr(edgevlm, name).__name__ == name


def test_all_is_sorted_and_without_duplicates():
    assert list(edgevlm.__all__) == sorted(set(edgevlm.__all__))


def test_all_is_exactly_what_the_module_exposes():
    assert dir(edgevlm) == sorted(edgevlm.__all__)
    assert set(edgevlm._HOME_OF) | {"__version__"} == set(edgevlm.__all__)


def test_type_checkers_see_the_same_names_from_the_same_modules():
    tree = ast.parse(Path(inspect.getfile(edgevlm)).read_text("utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.name: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == edgevlm._HOME_OF


def test_every_error_is_public():
    defined = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, Exception)
    }
    assert defined <= set(edgevlm.__all__)


def test_a_name_that_is_not_public_is_an_attribute_error_that_names_it():
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        edgevlm.lod  # noqa: B018


def test_the_drawn_error_tree_is_the_real_one():
    drawn: list[tuple[int, str, str | None]] = []
    for line in (errors.__doc__ or "").splitlines():
        head = line.lstrip(" │├└─")
        name, _, rest = head.partition(" ")
        if name in vars(errors) or name.endswith("Error"):
            extra = rest.strip().partition(")")[0].lstrip("(") if rest.startswith("(") else None
            drawn.append((len(line) - len(head), name, extra))
    assert len(drawn) == sum(isinstance(v, type) for v in vars(errors).values())
    stack: list[tuple[int, str]] = []
    for indent, name, extra in drawn:
        while stack and stack[-1][0] >= indent:
            stack.pop()
        bases = [stack[-1][1] if stack else "Exception", *([extra] if extra else [])]
        assert [base.__name__ for base in vars(errors)[name].__bases__] == bases, name
        stack.append((indent, name))
