"""Reads the Python files of `scenarios/` (scenarios, scoring.py, events.py, segments.py, forms.py) and says what is wrong.

A file is run from source, as a module of its own that is not left in `sys.modules`; never from a cached `.pyc`, whose age
is counted in whole seconds: an edit within the second would be missed. What it raises becomes a problem with its line,
and the rest of the file is looked at still, so that one slip does not hide the next.
"""

from __future__ import annotations
import __future__

import ast
import inspect
import re
import traceback
import warnings
from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Protocol, TypeVar

from mebae.errors import MebaeError, Problem, ScenarioError, did_you_mean

Kind = TypeVar("Kind")

_KEYWORD = re.compile(r"(?P<verb>\w+)(?:\.__init__)?\(\) got an unexpected keyword argument '(?P<name>\w+)'(?:\. .*)?")


class Report(Protocol):
    """Takes one problem: what, and in which line of the file."""

    def __call__(self, message: str, line: int | None = None, /) -> None: ...


def place(path: Path, line: int | None = None, *, folders: int = 1) -> str:
    """How a file is called in problems: with so many folders above it, so that every machine says the same.

    >>> place(Path("/srv/mebae/scenarios/scoring.py"), 7)
    'scenarios/scoring.py:7'
    """
    short = path.relative_to(path.parents[folders]) if len(path.parents) > folders else path
    return f"{short.as_posix()}:{line}" if line else short.as_posix()


def reporter(path: Path, problems: list[Problem], *, folders: int = 1) -> Report:
    """A report that puts what it is told into `problems`, each once, under the file's place."""

    def report(message: str, line: int | None = None, /) -> None:
        problem = Problem(file=place(path, line, folders=folders), message=message)
        if problem not in problems:
            problems.append(problem)

    return report


def decoded(path: Path, *, folders: int = 1) -> str:
    """The text of a file in UTF-8, or in what a Japanese Excel saves as CSV. Raises `ScenarioError`."""
    raw = path.read_bytes()
    for encoding in ("utf-8-sig", "cp932"):
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError:
            continue
    where = place(path, folders=folders)
    raise ScenarioError([Problem(file=where, message="the file is no UTF-8 text: save it as CSV UTF-8")])


def read_objects(path: Path, kind: type[Kind], names: Collection[str], report: Report) -> list[tuple[str, Kind]] | None:
    """Every object of this kind that the file holds, each once, with the name that it has there, in the order written.

    Those in a list or tuple at the top of the file count too (`segments = [segment(…), …]`); they have the list's name.
    `names` is what the file's language offers (its `__all__`), for `did you mean`. None if the file could not be run;
    then `report` has been told why.
    """
    module = run_file(path, names, report)
    if module is None:
        return None
    found: dict[int, tuple[str, Kind]] = {}
    for name, value in vars(module).items():
        for one in value if isinstance(value, (list, tuple)) else (value,):
            if isinstance(one, kind):
                found.setdefault(id(one), (name, one))
    return list(found.values())


def read_object(
    path: Path, kind: type[Kind], names: Collection[str], report: Report, *, what: str, write: str, several: str
) -> Kind | None:
    """The one object of this kind that the file holds.

    `what` it is called in problems ("scoring model"), how to `write` one, and what to do if there are `several`.
    """
    found = read_objects(path, kind, names, report)
    if found is None:
        return None
    if len(found) == 1:
        return found[0][1]
    named = ", ".join(name for name, _ in found)
    many = f"there are {len(found)} {what}s ({named}): {several}"
    report(many if found else f"there is no {what}: write {write}")
    return None


def run_file(path: Path, names: Collection[str], report: Report) -> ModuleType | None:
    """The file, run as a module of its own; None if anything in it raised, with everything that did reported."""
    raw = path.read_bytes()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # Those are the author's editor's to show.
            tree = ast.parse(raw, str(path))
    except SyntaxError as error:
        report(f"Python can not read this line: {error.msg}", error.lineno)
        return None
    except ValueError as error:  # a NUL byte, before Python 3.12
        report(f"Python can not read this file: {error}")
        return None
    module = ModuleType(f"mebae_file_{path.parent.name}_{path.stem}")
    module.__file__ = str(path)
    return module if _Run(path, vars(module), names, report).all(tree) else None


class _Run:
    """Runs a file statement by statement; one that raises does not keep the next from being looked at."""

    def __init__(self, path: Path, scope: dict[str, object], names: Collection[str], report: Report) -> None:
        self.path, self.scope, self.names, self.report = path, scope, names, report
        self.flags = 0
        self.lost: set[str] = set()
        """What would have a value if the statement that gives it one had not raised."""

    def all(self, tree: ast.Module) -> bool:
        well = True
        for statement in tree.body:
            if isinstance(statement, ast.ImportFrom) and statement.module == "__future__":
                for alias in statement.names:
                    self.flags |= getattr(__future__, alias.name).compiler_flag
            error = self._raised(partial(self._exec, statement))
            if error is None:
                continue
            well = False
            if isinstance(statement, (ast.Import, ast.ImportFrom)):
                self._tell(error)
                return False  # Without it every later line would be wrong.
            for one in self._within(statement, error):
                self._tell(one)
            self.lost |= {node.id for node in ast.walk(statement) if isinstance(node, ast.Name) and _is_given(node)}
            self.lost |= {statement.name} if isinstance(statement, (ast.FunctionDef, ast.ClassDef)) else set()
        return well

    def _exec(self, statement: ast.stmt) -> None:
        code = compile(ast.Module([statement], []), str(self.path), "exec", self.flags, dont_inherit=True)
        exec(code, self.scope)  # noqa: S102 - our own files

    def _eval(self, expression: ast.expr) -> None:
        code = compile(ast.Expression(expression), str(self.path), "eval", self.flags, dont_inherit=True)
        eval(code, self.scope)  # noqa: S307 - our own files

    def _raised(self, act: Callable[[], None]) -> BaseException | None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", SyntaxWarning)
                act()
        except (Exception, SystemExit) as error:
            return error
        return None

    def _within(self, node: ast.AST, error: BaseException) -> list[BaseException]:
        """What raises of the parts, if one does; else the whole's own error. Verbs only make data, so asking again is harmless."""
        found: list[BaseException] = []
        for part in _parts(node):
            inner = self._raised(partial(self._eval, part))
            if inner is not None:
                found += self._within(part, inner)
        return found or [error]

    def _tell(self, error: BaseException) -> None:
        lines = [
            frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(self.path)
        ]
        if not (isinstance(error, NameError) and error.name in self.lost):
            self.report(self._reason(error), lines[-1] if lines else None)

    def _reason(self, error: BaseException) -> str:
        match error:
            case NameError(name=str(name)):
                # The list of all verbs is no help: only a near miss is shown.
                near = did_you_mean(name, self.names)
                return f"'{name}' is not defined{near if near.startswith(',') else ''}"
            case MebaeError():
                return str(error)
            case TypeError() if (slip := _KEYWORD.fullmatch(str(error))) is not None:
                takes = _arguments(self.scope.get(slip["verb"]))
                return f"{slip['verb']}(…) takes no '{slip['name']}'{did_you_mean(slip['name'], takes)}"
            case _:
                return f"{type(error).__name__}: {error}"


def _arguments(verb: object) -> list[str]:
    """What may be named in a call of it."""
    try:
        return [name for name in inspect.signature(verb).parameters if name != "self"] if callable(verb) else []
    except ValueError:
        return []


def _is_given(node: ast.Name) -> bool:
    return isinstance(node.ctx, ast.Store)


def _parts(node: ast.AST) -> Iterator[ast.expr]:
    """The expressions right inside that stand for themselves: not those of a lambda or a comprehension, which need its names."""
    match node:
        case ast.Assign(value=value) | ast.Expr(value=value) | ast.AnnAssign(value=ast.expr() as value):
            yield value
        case ast.Call(args=args, keywords=keywords):
            yield from (arg.value if isinstance(arg, ast.Starred) else arg for arg in args)
            yield from (keyword.value for keyword in keywords)
        case ast.List(elts=parts) | ast.Tuple(elts=parts) | ast.Set(elts=parts):
            yield from (part.value if isinstance(part, ast.Starred) else part for part in parts)
        case ast.Dict(keys=keys, values=values):
            yield from (part for pair in zip(keys, values, strict=True) for part in pair if part is not None)
        case ast.BinOp(left=left, right=right):
            yield left
            yield right
        case ast.UnaryOp(operand=operand):
            yield operand
        case ast.Attribute(value=value):
            yield value
