"""Arithmetic expressions that others wrote: whether they use given numbers to make a target, and a normal form.

Nothing that is read is ever executed: a text is looked at, parsed into a tree of four operations, minus signs and whole numbers,
and worked out with fractions. Knows nothing of tasks, nor where the numbers come from.
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
DOUBLE_MINUS: Final = re.compile(r"- *-")
BEHIND: Final = " \t\r\n"  # blanks and line ends that may follow an expression
ALLOWED: Final = (ast.BinOp, ast.UnaryOp, ast.Constant, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.USub)


def solves(text: object, numbers: Sequence[int], target: int) -> bool:
    """Whether a text is an expression with the value ``target`` in which each of ``numbers`` stands exactly once.

    Legal are + - * / and parentheses over plain whole numbers, with spaces between them. A minus sign may also stand before a
    number or a parenthesis (``-(2-8)*3``), though not right behind another one (``5-(-1)``, not ``5--1``); a plus sign may not.
    Blanks and line ends may follow the expression. Anything else, whatever it is, is False: never raises, never runs long.
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
    Minus signs inside a product are counted, and at most one is left, before it (``a*-b`` is ``-a*b``). A text without a value
    is given back as it stands.
    """
    tree = _tree(text)
    return text if tree is None or _value(tree) is None else _written(tree)


def _tree(text: object) -> ast.expr | None:
    """The parsed expression; None for all but plain arithmetic. Length, characters, nesting are looked at before."""
    if not isinstance(text, str) or len(text) > MOST_CHARS:
        return None
    text = text.rstrip(BEHIND)
    if not LEGAL.fullmatch(text) or LEADING_ZERO.search(text) or DOUBLE_MINUS.search(text) or _nesting(text) > MOST_NESTING:
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
    if isinstance(tree, ast.UnaryOp):
        operand = _value(tree.operand)
        return None if operand is None else -operand
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
    """A checked tree in its normal form: a sum of products, with the subtracted ones last."""
    return _sum(*_terms(tree))


def _sum(terms: Sequence[str], less: Sequence[str]) -> str:
    """Terms that are added, then those that are subtracted."""
    return "+".join(sorted(terms)) + "".join(["-" + term for term in sorted(less)])


def _terms(tree: ast.expr) -> tuple[list[str], list[str]]:
    """The products that a sum adds up, and those that it subtracts, each in its normal form without a sign."""
    if isinstance(tree, ast.BinOp) and isinstance(tree.op, (ast.Add, ast.Sub)):
        (plus, minus), (more, less) = _terms(tree.left), _terms(tree.right)
        if isinstance(tree.op, ast.Sub):
            more, less = less, more
        return plus + more, minus + less
    if isinstance(tree, ast.UnaryOp):
        plus, minus = _terms(tree.operand)
        return minus, plus
    factors, by, negative = _factors(tree)
    text = "*".join(sorted(factors)) + "".join(["/" + factor for factor in sorted(by)])
    return ([], [text]) if negative else ([text], [])


def _factors(tree: ast.expr) -> tuple[list[str], list[str], bool]:
    """What a product multiplies and what it divides by, each in its normal form without a sign; and whether it is negated."""
    if isinstance(tree, ast.UnaryOp):
        more, less, negative = _factors(tree.operand)
        return more, less, not negative
    if isinstance(tree, ast.Constant):
        return [str(tree.value)], [], False
    assert isinstance(tree, ast.BinOp)
    if isinstance(tree.op, (ast.Add, ast.Sub)):
        plus, minus = _terms(tree)
        return [f"({_sum(plus or minus, minus if plus else [])})"], [], not plus
    (factors, by, negative), (more, less, other) = _factors(tree.left), _factors(tree.right)
    if isinstance(tree.op, ast.Div):
        more, less = less, more
    return factors + more, by + less, negative != other
