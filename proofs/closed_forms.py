"""Change the closed forms of editing in every small way and see that a test turns red each time.

    python -m proofs.closed_forms [--only FILE.py]

Signs, the order and kind of products, transpositions, indices, bounds of slices and dimensions, one
change at a time, in a copy of the repository. Exit status 0: each change was noticed; 1: at least
one was not.
"""

from __future__ import annotations

import argparse
import ast
import copy
import multiprocessing
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from proofs import installations

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
TIME_LIMIT_SECONDS = 180
LEFT_OUT = shutil.ignore_patterns(".git", ".venv", "var", "__pycache__", ".hypothesis", ".*_cache")
# What takes long to load and is not changed.
LOADED_ONCE = [
    "torch",
    "transformers.models.gpt2.modeling_gpt2",
    "transformers.models.llama.modeling_llama",
    "hypothesis",
    "pytest_django.plugin",
    "celery",
]
SWAPPED = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult}


class Target(NamedTuple):
    """A file, the functions with formulas in it, and the tests that hold them."""

    file: str
    functions: tuple[str, ...]
    tests: tuple[str, ...]


TARGETS = (
    Target(
        "editing/closed_form.py",
        ("constrained", "rank_one", "least_squares", "null_space", "in_null_space", "compact"),
        ("test_closed_form", "test_mass"),
    ),
    Target(
        "editing/rome.py",
        ("_homogeneous", "take", "_published"),
        ("test_golden", "test_rome"),
    ),
    Target("editing/emmet.py", ("gain",), ("test_golden", "test_mass")),
    Target("editing/alphaedit.py", ("gain",), ("test_golden", "test_mass")),
    Target(
        "editing/mass.py",
        ("_values", "_anchored", "anchored", "_spread", "_look"),
        ("test_golden", "test_mass"),
    ),
    Target("editing/trial.py", ("add",), ("test_mass", "test_rome")),
    Target("editing/located.py", ("neighbour_sum", "to_keep", "kept_keys"), ("test_kept",)),
    Target("editing/contexts.py", ("group_means",), ("test_kept",)),
    Target("editing/memory.py", ("after",), ("test_kept",)),
    Target(
        "editing/value.py",
        ("_problem", "_losses", "_update", "_norms"),
        ("test_value", "test_golden"),
    ),
    Target("editing/adam.py", ("step",), ("test_adam",)),
    Target(
        "editing/ultraedit.py",
        ("_gram", "change", "wanted_change", "_solve", "_system", "_measure", "_write"),
        ("test_ultraedit",),
    ),
    Target("editing/bound.py", ("share_to_write", "_between"), ("test_bound",)),
    Target(
        "editing/kept_rows.py",
        (
            *("narrowed", "moved", "row_losses", "row_scores"),
            *("reached_share", "stayed_share", "achieved_by"),
        ),
        ("test_kept_rows",),
    ),
    Target("editing/ultraedit_passes.py", ("factors", "_run", "keys"), ("test_ultraedit",)),
    Target("editing/lifelong.py", ("of", "joined", "standardised"), ("test_ultraedit",)),
    Target(
        "editing/malmen.py",
        ("aggregate", "back_substitute", "shifts", "change", "learn", "_gram"),
        ("test_malmen",),
    ),
    Target("editing/mend.py", ("change", "learn"), ("test_mend",)),
    Target(
        "editing/learned/network.py",
        ("update", "std", "forward", "step"),
        ("test_mend", "test_malmen"),
    ),
    Target("editing/codebook.py", ("radii", "_limits", "_may_grow", "distances"), ("test_grace",)),
    Target("editing/grace.py", ("_reach", "_losses", "run"), ("test_grace",)),
)


class Mutant(NamedTuple):
    """The text of a file with one change, and what was changed where."""

    line: int
    change: str
    text: str


def mutants(source: str, functions: tuple[str, ...]) -> Iterator[Mutant]:
    """Yield the file with each change inside the named functions."""
    tree = ast.parse(source)
    for number, node in enumerate(ast.walk(tree)):
        if isinstance(node, ast.FunctionDef) and node.name in functions:
            for place, inside in enumerate(ast.walk(node)):
                for change in _changes(inside):
                    yield _mutant(tree, number, place, change)


def _changes(node: ast.AST) -> list[str]:
    """Return the names of the changes that this node allows."""
    if isinstance(node, ast.BinOp | ast.AugAssign):
        kind = type(node.op)
        found = ["other sign" if kind in (ast.Add, ast.Sub) else "other operation"]
        swaps = (
            isinstance(node, ast.BinOp)
            and kind is ast.MatMult
            and ast.dump(node.left) != ast.dump(node.right)
        )
        return (found if kind in SWAPPED else []) + (["factors swapped"] if swaps else [])
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return ["minus dropped"]
    if isinstance(node, ast.Attribute) and node.attr == "T":
        return ["transposition dropped"]
    if isinstance(node, ast.Subscript):
        return [f"next index, {number}" for number, _ in enumerate(_indices(node))]
    if isinstance(node, ast.keyword) and node.arg in ("dim", "diagonal"):
        return ["other dimension"] if isinstance(node.value, ast.Constant) else []
    return []


def _indices(node: ast.Subscript) -> list[ast.Constant]:
    """Return the whole numbers that choose: alone, among several, or as a bound of a slice."""
    items = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    bounds: list[ast.expr | None] = []
    for item in items:
        bounds += [item.lower, item.upper] if isinstance(item, ast.Slice) else [item]
    return [one for one in bounds if isinstance(one, ast.Constant) and type(one.value) is int]


def _mutant(tree: ast.Module, number: int, place: int, change: str) -> Mutant:
    changed = copy.deepcopy(tree)
    function = list(ast.walk(changed))[number]
    node = list(ast.walk(function))[place]
    before = ast.unparse(node)
    if isinstance(node, ast.BinOp) and change == "factors swapped":
        node.left, node.right = node.right, node.left
    elif isinstance(node, ast.BinOp | ast.AugAssign):
        node.op = SWAPPED[type(node.op)]()
    elif isinstance(node, ast.Subscript):
        chosen = _indices(node)[int(change.rpartition(" ")[2])]
        chosen.value = int(str(chosen.value)) + 1
    elif isinstance(node, ast.keyword) and isinstance(node.value, ast.Constant):
        node.value = ast.Constant(1 - abs(int(str(node.value.value))))
    else:
        # -x and x.T hold what is left of them.
        kept = node.operand if isinstance(node, ast.UnaryOp) else node.value  # type: ignore[attr-defined]
        _put(function, node, kept)
    line = getattr(node, "lineno", 0)
    return Mutant(line, f"{change}: {before}", ast.unparse(changed))


def _put(root: ast.AST, old: ast.AST, new: ast.AST) -> None:
    """Put one node in the place of another."""
    for parent in ast.walk(root):
        for name, value in ast.iter_fields(parent):
            if value is old:
                setattr(parent, name, new)
            elif isinstance(value, list) and any(item is old for item in value):
                setattr(parent, name, [new if item is old else item for item in value])


def _green(folder: Path, tests: tuple[str, ...]) -> bool:
    """Whether the tests pass in the copy, in a process of their own; one that hangs does not."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LOADED_ONCE)
    child = context.Process(target=_tests, args=(folder, tests))
    child.start()
    child.join(TIME_LIMIT_SECONDS)
    if child.is_alive():
        child.kill()
        child.join()
    return child.exitcode == 0


def _tests(folder: Path, tests: tuple[str, ...]) -> None:
    """Run the tests of the copy and leave with pytest's exit status."""
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    # A change within a second leaves time and size of a file as they were, so its cache as well.
    sys.dont_write_bytecode = True
    with Path(os.devnull).open("w", encoding="utf-8") as nothing:
        os.dup2(nothing.fileno(), sys.stdout.fileno())
        os.dup2(nothing.fileno(), sys.stderr.fileno())
    files = [f"tests/editing/{name}.py" for name in tests]
    # Plain, for what is loaded already cannot be rewritten.
    sys.exit(pytest.main(["-x", "-q", "--assert=plain", "-p", "no:cacheprovider", *files]))


def measure(target: Target, folder: Path) -> tuple[int, list[str]]:
    """Return how many changes were noticed and, for each of the others, what and where."""
    path = folder / target.file
    source = path.read_text(encoding="utf-8")
    missing = [name for name in target.functions if f"def {name}(" not in source]
    if missing or not _green(folder, target.tests):
        raise SystemExit(f"{target.file}: {missing or target.tests} must be there and pass first.")
    noticed, unnoticed = 0, []
    for mutant in mutants(source, target.functions):
        path.write_text(mutant.text, encoding="utf-8")
        if _green(folder, target.tests):
            unnoticed.append(f"line {mutant.line}, {mutant.change}")
        else:
            noticed += 1
    path.write_text(source, encoding="utf-8")
    return noticed, unnoticed


def main() -> int:
    """Try all, print what was not noticed, keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", help="one file of those with formulas")
    only = parser.parse_args().only
    found = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "lethe"
        shutil.copytree(ROOT, folder, ignore=LEFT_OUT)
        for target in TARGETS:
            if only in (None, target.file):
                noticed, unnoticed = measure(target, folder)
                found[target.file] = {"noticed": noticed, "unnoticed": unnoticed}
                sys.stdout.write(f"{target.file}: {noticed} of {noticed + len(unnoticed)}\n")
                sys.stdout.write("".join(f"  not noticed: {one}\n" for one in unnoticed))
                sys.stdout.flush()
    installations.keep("closed_forms", {"files": found})
    return 1 if any(row["unnoticed"] for row in found.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
