"""Small changes of a source file, one at a time.

A mutant swaps a comparison or an operator, turns `and` into `or`, negates a condition, changes a
number by one, flips a truth value, replaces a returned value by None, or leaves out a `not`.
Annotations, docstrings, messages of errors and logs, and code for type checkers are left alone.
"""

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}

OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.FloorDiv: ast.Mult,
    ast.Div: ast.Mult,
    ast.Mod: ast.Add,
    ast.Pow: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
"""`|` between types is left alone, since annotations are."""

SILENT_CALLS = ("logger", "say", "warn", "cast", "TypeVar", "NewType")
"""Functions, or objects of methods, whose arguments are not mutated: text for people, and types."""

LEFT_ALONE = (ast.Raise, ast.Assert, ast.JoinedStr, ast.Import, ast.ImportFrom)


@dataclass(frozen=True)
class Mutant:
    """One change.

    Attributes:
        file: source file.
        line: number of its line, from 1.
        column: number of its first character in the line, from 1.
        statement: first and last line of the statement, or of the head of a compound one, that it
            is a part of.
        at_import: whether the statement runs when the file is imported, outside of functions.
        before: the changed expression.
        after: what it becomes.
        start: index of its first character in the file.
        end: index behind its last character.
    """

    file: Path
    line: int
    column: int
    statement: tuple[int, int]
    at_import: bool
    before: str
    after: str
    start: int
    end: int

    @property
    def name(self) -> str:
        """The change in one line; equal in every run, and no other mutant has it."""
        place = f"{self.file.as_posix()}:{self.line}:{self.column}"
        return f"{place}: {self.before} -> {self.after}"

    def source(self) -> str:
        """The source of the whole file with the change."""
        text = self.file.read_text(encoding="utf-8")
        return text[: self.start] + self.after + text[self.end :]


def mutants_of(file: Path) -> list[Mutant]:
    """Every mutant of a file, in the order of the source."""
    text = file.read_text(encoding="utf-8")
    finder = _Finder(file, text)
    finder.visit(ast.parse(text))
    unique = {(each.start, each.end, each.after): each for each in finder.found}
    return sorted(unique.values(), key=lambda each: (each.start, each.end, each.after))


class _Finder(ast.NodeVisitor):
    def __init__(self, file: Path, text: str) -> None:
        self.found: list[Mutant] = []
        self._file, self._text = file, text
        self._statement = (1, 1)
        self._functions = 0
        self._lines = [0]
        for line in text.encode().split(b"\n"):
            self._lines.append(self._lines[-1] + len(line) + 1)

    def _place(self, node: ast.expr) -> tuple[int, int]:
        """Indices of the characters of a node; ast counts bytes."""
        data = self._text.encode()
        ends = (
            self._lines[node.lineno - 1] + node.col_offset,
            self._lines[(node.end_lineno or node.lineno) - 1] + (node.end_col_offset or 0),
        )
        first, last = (len(data[:end].decode()) for end in ends)
        return first, last

    def _add(self, node: ast.expr, after: ast.expr) -> None:
        start, end = self._place(node)
        before = " ".join(self._text[start:end].split())
        self.found.append(
            Mutant(
                self._file,
                node.lineno,
                start - self._text.rfind("\n", 0, start),
                self._statement,
                self._functions == 0,
                before,
                f"({ast.unparse(after)})",
                start,
                end,
            )
        )

    def visit_If(self, node: ast.If) -> None:
        """Negate the condition; code for type checkers is skipped."""
        if ast.unparse(node.test) in ("TYPE_CHECKING", "sys.version_info"):
            return
        self._negate(node.test)
        self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        """Negate the condition."""
        self._negate(node.test)
        self.generic_visit(node)

    def visit_While(self, node: ast.While) -> None:
        """Negate the condition."""
        self._negate(node.test)
        self.generic_visit(node)

    def _negate(self, test: ast.expr) -> None:
        if not isinstance(test, ast.Compare | ast.UnaryOp | ast.Constant):
            self._add(test, ast.UnaryOp(ast.Not(), test))

    def visit_Compare(self, node: ast.Compare) -> None:
        """Swap the first comparison."""
        swapped = COMPARISONS[type(node.ops[0])]()
        self._add(node, ast.Compare(node.left, [swapped, *node.ops[1:]], node.comparators))
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        """Swap the operator; texts and unions of types are left alone."""
        text = any(
            isinstance(side, ast.JoinedStr)
            or (isinstance(side, ast.Constant) and isinstance(side.value, str))
            for side in (node.left, node.right)
        )
        if not text and type(node.op) in OPERATORS:
            self._add(node, ast.BinOp(node.left, OPERATORS[type(node.op)](), node.right))
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        """Swap `and` and `or`."""
        swapped = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        self._add(node, ast.BoolOp(swapped, node.values))
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        """Leave out a `not` or a minus."""
        if isinstance(node.op, ast.Not | ast.USub):
            self._add(node, node.operand)
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        """Change a number by one, or flip a truth value."""
        if isinstance(node.value, bool):
            self._add(node, ast.Constant(not node.value))
        elif isinstance(node.value, int | float):
            self._add(node, ast.Constant(node.value + 1))

    def visit_Return(self, node: ast.Return) -> None:
        """Return None instead of a value."""
        if node.value is not None and ast.unparse(node.value) != "None":
            self._add(node.value, ast.Constant(None))
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        """Visit the arguments, unless they are text for people."""
        called = ast.unparse(node.func).split(".")
        if called[0] not in SILENT_CALLS and not called[-1].endswith("Warning"):
            self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        """Visit defaults and body, not annotations and decorators."""
        self._visit_all([*node.args.defaults, *filter(None, node.args.kw_defaults)])
        self._functions += 1
        self._visit_all(node.body)
        self._functions -= 1

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        """Visit the body; a class that only type checkers know has none worth changing."""
        if not any(ast.unparse(base) in ("Protocol", "TypedDict") for base in node.bases):
            self._visit_all(node.body)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        """Visit the value, not the annotation."""
        if node.value and ast.unparse(node.annotation) != "TypeAlias":
            self.visit(node.value)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        """Visit an index; `Literal[1]` and other types have none."""
        if ast.unparse(node.value).rpartition(".")[2] not in ("Literal", "Annotated", "NDArray"):
            self.generic_visit(node)

    def visit(self, node: ast.AST) -> None:
        """Visit what can be mutated."""
        if isinstance(node, LEFT_ALONE):
            return
        outer = self._statement
        if isinstance(node, ast.stmt):
            body = getattr(node, "body", None)
            last = body[0].lineno - 1 if body else node.end_lineno or node.lineno
            self._statement = (node.lineno, max(node.lineno, last))
        super().visit(node)
        self._statement = outer

    def _visit_all(self, nodes: Sequence[ast.stmt | ast.expr]) -> None:
        for node in nodes:
            self.visit(node)


def source_files(folders: list[Path]) -> Iterator[Path]:
    """Every Python file below some folders, in order of their names."""
    for folder in folders:
        yield from sorted(folder.rglob("*.py"))
