"""Arithmetic expressions that others wrote: whether they use given numbers to make a target, and a normal form.

Nothing that is read is ever executed: a text is looked at, parsed into a tree of four operations and whole numbers, and worked
out with fractions. Knows nothing of tasks, nor where the numbers come from.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from fractions import Fraction
from typing import Final

MOST_CHARS: Final = 200  # far above any answer; below it, parsing and working out take microseconds
MOST_NESTING: Final = 20  # parentheses in one another
LEGAL: Final = re.compile(r"[0-9+\-*/() ]+")
LEADING_ZERO: Final = re.compile(r"(?<![0-9])0[0-9]")
ALLOWED: Final = (ast.BinOp, ast.Constant, ast.Add, ast.Sub, ast.Mult, ast.Div)


def solves(text: object, numbers: Sequence[int], target: int) -> bool:
    """Whether a text is an expression with the value ``target`` in which each of ``numbers`` stands exactly once.

    Legal are + - * / and parentheses over plain whole numbers, with spaces between them. Anything else, whatever it is, is False:
    never raises, never runs long.
    """
    tree = _tree(text)
    if tree is None or sorted(_constants(tree)) != sorted(numbers):
        return False
    return _value(tree) == target


def value(text: object) -> Fraction | None:
    """What an expression comes to; None if it is not one, or divides by zero."""
    tree = _tree(text)
    return None if tree is None else _value(tree)


def canonical(text: str) -> str:
    """The same expression in a normal form, so that votes count together what differs by order and idle parentheses alone.

    Sums and products are flattened (``a-(b-c)`` is ``a+c-b``, ``a/(b/c)`` is ``a*c/b``) and sorted; nothing is multiplied out.
    A text without a value is given back as it stands.
    """
    tree = _tree(text)
    return text if tree is None or _value(tree) is None else _written(tree)


def _tree(text: object) -> ast.expr | None:
    """The parsed expression; None for all but plain arithmetic. Length, characters, nesting are looked at before."""
    if not isinstance(text, str) or len(text) > MOST_CHARS or not LEGAL.fullmatch(text) or LEADING_ZERO.search(text):
        return None
    if _nesting(text) > MOST_NESTING:
        return None
    try:
        tree = ast.parse(text.strip(" "), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return None
    return tree if all(isinstance(node, ALLOWED) for node in ast.walk(tree)) else None


def _nesting(text: str) -> int:
    """The most parentheses that are open at one place."""
    depth = most = 0
    for char in text:
        depth += (char == "(") - (char == ")")
        most = max(most, depth)
    return most


def _constants(tree: ast.expr) -> list[int]:
    return [int(str(node.value)) for node in ast.walk(tree) if isinstance(node, ast.Constant)]


def _value(tree: ast.expr) -> Fraction | None:
    """What a checked tree comes to; None where it divides by zero."""
    if isinstance(tree, ast.Constant):
        return Fraction(int(str(tree.value)))
    assert isinstance(tree, ast.BinOp)
    left, right = _value(tree.left), _value(tree.right)
    if left is None or right is None or (isinstance(tree.op, ast.Div) and not right):
        return None
    if isinstance(tree.op, ast.Add):
        return left + right
    if isinstance(tree.op, ast.Sub):
        return left - right
    return left * right if isinstance(tree.op, ast.Mult) else left / right


def _written(tree: ast.expr) -> str:
    """A checked tree in its normal form."""
    if isinstance(tree, ast.Constant):
        return str(tree.value)
    assert isinstance(tree, ast.BinOp)
    if isinstance(tree.op, (ast.Add, ast.Sub)):
        terms, less = (sorted(map(_written, part)) for part in _flat(tree, ast.Add, ast.Sub))
        return "+".join(terms) + "".join(["-" + term for term in less])
    factors, by = (sorted(map(_factor, part)) for part in _flat(tree, ast.Mult, ast.Div))
    return "*".join(factors) + "".join(["/" + factor for factor in by])


def _factor(tree: ast.expr) -> str:
    """A part of a product: sums in parentheses."""
    is_sum = isinstance(tree, ast.BinOp) and isinstance(tree.op, (ast.Add, ast.Sub))
    return f"({_written(tree)})" if is_sum else _written(tree)


def _flat(tree: ast.expr, joins: type[ast.operator], inverts: type[ast.operator]) -> tuple[list[ast.expr], list[ast.expr]]:
    """The parts of a sum (or product), and those that are subtracted (or divided by)."""
    if not isinstance(tree, ast.BinOp) or not isinstance(tree.op, (joins, inverts)):
        return [tree], []
    (plus, minus), (more, less) = _flat(tree.left, joins, inverts), _flat(tree.right, joins, inverts)
    if isinstance(tree.op, inverts):
        more, less = less, more
    return plus + more, minus + less
