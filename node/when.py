"""The ``when`` of a route: a small language over the tags of a series, checked before it runs.

Text is ``'in quotes'``; ``tags.Keyword`` is text, empty where the series lacks the element;
``upper``, ``lower`` and ``number`` change it; ``==  !=  <  <=  >  >=  in  not in`` compare,
``and  or  not`` combine. What the check accepts cannot fail when it is evaluated.
"""

import ast
import math
from collections.abc import Callable, Iterator, Mapping
from enum import Enum, auto

from simpleeval import EvalWithCompoundTypes

from node.problems import nearest

_LONGEST = 2000
_DEEPEST = 40


class WhenError(ValueError):
    """An expression says something that the language of ``when`` does not have."""


class _Kind(Enum):
    TEXT = auto()
    NUMBER = auto()
    TRUTH = auto()
    TEXTS = auto()


class _Tags(dict[str, str]):
    """The tags of one series; what it lacks is empty text."""

    def __missing__(self, keyword: str) -> str:
        return ""


def _number(text: str) -> float:
    """Return the first value of ``text`` as a number; NaN, which compares false, if it is none."""
    try:
        return float(text.split("\\", maxsplit=1)[0])
    except ValueError:
        return math.nan


_FUNCTIONS: Mapping[str, tuple[Callable[[str], object], _Kind]] = {
    "upper": (str.upper, _Kind.TEXT),
    "lower": (str.lower, _Kind.TEXT),
    "number": (_number, _Kind.NUMBER),
}
_EQUALITY = (ast.Eq, ast.NotEq)
_ORDER = (ast.Lt, ast.LtE, ast.Gt, ast.GtE)
_MEMBERSHIP = (ast.In, ast.NotIn)


def check_when(expression: str) -> tuple[str, ...]:
    """Return the keywords that ``expression`` asks of a series, in order of appearance.

    Raises
    ------
    WhenError
        The text is no expression of the language; the message says where and what is allowed.
    """
    if len(expression) > _LONGEST:
        raise WhenError(f"{len(expression)} characters are too many, at most {_LONGEST}")
    try:
        tree = ast.parse(expression.strip(), mode="eval").body
    except SyntaxError as error:
        raise WhenError(f"not an expression: {error.msg} at column {error.offset}") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise WhenError("not an expression that can be read") from error
    _kind(tree, 0)
    return tuple(dict.fromkeys(_keywords(tree)))


def holds(expression: str, tags: Mapping[str, str]) -> bool:
    """Return whether ``expression`` is true of a series with these tags; empty is always true."""
    if not expression.strip():
        return True
    evaluator = EvalWithCompoundTypes(
        functions={name: function for name, (function, _) in _FUNCTIONS.items()},
        names={"tags": _Tags(tags)},
    )
    return bool(evaluator.eval(expression.strip()))


def _keywords(tree: ast.AST) -> Iterator[str]:
    return (node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute))


def _kind(node: ast.expr, depth: int) -> _Kind:
    """Return what ``node`` evaluates to, having checked everything below it."""
    if depth > _DEEPEST:
        raise WhenError("nested too deeply")
    check = _CHECKS.get(type(node))
    if check is None:
        written = ast.unparse(node)
        raise WhenError(
            f"{written[:60]!r} is not allowed: use tags.Keyword, 'text', numbers, comparisons, "
            f"in, and, or, not, {', '.join(_FUNCTIONS)}"
        )
    return check(node, depth + 1)


def _constant_kind(node: ast.Constant, _depth: int) -> _Kind:
    kinds: Mapping[type, _Kind] = {
        str: _Kind.TEXT,
        int: _Kind.NUMBER,
        float: _Kind.NUMBER,
        bool: _Kind.TRUTH,
    }
    if type(node.value) not in kinds:
        raise WhenError(f"{node.value!r} is neither text nor a number")
    return kinds[type(node.value)]


def _tag_kind(node: ast.Attribute, _depth: int) -> _Kind:
    if not isinstance(node.value, ast.Name) or node.value.id != "tags":
        raise WhenError(f"{ast.unparse(node)[:60]!r}: only tags has keywords, as in tags.Modality")
    if not node.attr[0].isupper():
        raise WhenError(f"{node.attr!r} is no DICOM keyword: these start with a capital letter")
    return _Kind.TEXT


def _name_kind(node: ast.Name, _depth: int) -> _Kind:
    if node.id == "tags":
        raise WhenError("tags stands alone: write tags.Keyword, such as tags.Modality")
    raise WhenError(f"unknown name {node.id!r}{nearest(node.id, ['tags', *_FUNCTIONS])}")


def _call_kind(node: ast.Call, depth: int) -> _Kind:
    name = ast.unparse(node.func)
    if name not in _FUNCTIONS:
        raise WhenError(f"unknown function {name!r}{nearest(name, _FUNCTIONS)}")
    if len(node.args) != 1 or node.keywords or _kind(node.args[0], depth) is not _Kind.TEXT:
        raise WhenError(f"{name}() takes one text, as in {name}(tags.SeriesDescription)")
    return _FUNCTIONS[name][1]


def _texts_kind(node: ast.Tuple | ast.List, depth: int) -> _Kind:
    if any(_kind(element, depth) is not _Kind.TEXT for element in node.elts):
        raise WhenError(f"{ast.unparse(node)[:60]}: a list holds only texts")
    return _Kind.TEXTS


def _choice_kind(node: ast.BoolOp, depth: int) -> _Kind:
    for operand in node.values:
        _kind(operand, depth)
    return _Kind.TRUTH


def _negation_kind(node: ast.UnaryOp, depth: int) -> _Kind:
    kind = _kind(node.operand, depth)
    if isinstance(node.op, ast.Not):
        return _Kind.TRUTH
    if isinstance(node.op, ast.USub) and kind is _Kind.NUMBER:
        return _Kind.NUMBER
    raise WhenError(f"{ast.unparse(node)[:60]!r} is not allowed")


def _comparison_kind(node: ast.Compare, depth: int) -> _Kind:
    kinds = [_kind(operand, depth) for operand in (node.left, *node.comparators)]
    for operator, left, right in zip(node.ops, kinds[:-1], kinds[1:], strict=True):
        if not _comparable(operator, left, right):
            raise WhenError(
                f"{ast.unparse(node)[:60]!r} compares {left.name.lower()} with "
                f"{right.name.lower()}; number(tags.Keyword) makes a number of a text"
            )
    return _Kind.TRUTH


def _comparable(operator: ast.cmpop, left: _Kind, right: _Kind) -> bool:
    if isinstance(operator, _MEMBERSHIP):
        return left is _Kind.TEXT and right in {_Kind.TEXT, _Kind.TEXTS}
    if isinstance(operator, _ORDER):
        return left is right and left in {_Kind.TEXT, _Kind.NUMBER}
    return isinstance(operator, _EQUALITY) and left is right


_CHECKS: Mapping[type[ast.expr], Callable[..., _Kind]] = {
    ast.Constant: _constant_kind,
    ast.Attribute: _tag_kind,
    ast.Name: _name_kind,
    ast.Call: _call_kind,
    ast.Tuple: _texts_kind,
    ast.List: _texts_kind,
    ast.BoolOp: _choice_kind,
    ast.UnaryOp: _negation_kind,
    ast.Compare: _comparison_kind,
}
