"""How plainly the code is written, in figures that a review can hold it to.

    python -m benchmarks.code_metrics [--root .] [--files 10] [--check]

Each figure stands beside its bound; `--check` ends with 1 if one is above it. The figures find
places that are worth reading; they do not say that the rest reads well. Nothing of the code is run.

- tokens: names, numbers, texts and operators, without docstrings and comments; a size that neither
  packed nor broken lines change
- packed: assignments `a, b = x, y`, per 1,000 lines of code
- comprehensions: of lists, sets, dictionaries and generators, per 1,000 lines of code
- multiplied: texts or lists times a condition, in all
- vague: share of locals and parameters whose name says nothing of their value, in percent
- long test names: share of tests whose name has more than eight words, in percent
- imports: statements at the top of a file, 95th percentile
- fan-out: files of the project that a file imports, 95th percentile
- edges: files of the project that a file imports, mean
- arrows: pairs of packages of which one imports the other, counted once for each module and package
"""

import argparse
import ast
import io
import sys
import tokenize
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

PACKAGE = "pipeline"
MOST_WORDS = 8
VAGUE_WORDS = """
one found known given told own made said seen held more others ours theirs here there how what
wanted kept left taken begun done both ways way further shown asked wrong right met drawn noted
thing things mine yours whole rest
"""
#: Names that tell a reader nothing about the value.
VAGUE = frozenset(VAGUE_WORDS.split())
#: Largest figures that the project allows itself; None = printed alone. Fan-out is to be at most 14
#: and edges 4.8; until then neither may grow.
BOUNDS: Mapping[str, float | None] = {
    "tokens": None,
    "packed": 3,
    "comprehensions": 30,
    "multiplied": 0,
    "vague": 0.5,
    "long test names": 10,
    "imports": 25,
    "fan-out": 15,
    "edges": 5.3,
    "arrows": None,
}
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
CODE_TOKENS = (tokenize.NAME, tokenize.NUMBER, tokenize.STRING, tokenize.OP)
LAYOUT_TOKENS = (
    *(tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE),
    *(tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER),
)


@dataclass
class FileCounts:
    """What one file holds."""

    tokens: int = 0
    lines: int = 0
    packed: int = 0
    comprehensions: int = 0
    multiplied: int = 0
    names: int = 0
    imports: int = 0
    vague: list[str] = field(default_factory=list)


def docstring_lines(tree: ast.AST) -> set[int]:
    """Return the numbers of all lines that belong to docstrings."""
    lines: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            docstring = node.body[0]
            lines.update(range(docstring.lineno, (docstring.end_lineno or docstring.lineno) + 1))
    return lines


def counts_of(path: Path) -> FileCounts:
    """Return the counts of a file of Python."""
    source = path.read_text(encoding="utf-8")
    tree = ast.parse(source)
    without = docstring_lines(tree)
    counts = FileCounts()
    code_lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.start[0] in without or token.type in LAYOUT_TOKENS:
            continue
        code_lines.update(range(token.start[0], token.end[0] + 1))
        counts.tokens += token.type in CODE_TOKENS
    counts.lines = len(code_lines)
    counts.imports = sum(isinstance(node, ast.Import | ast.ImportFrom) for node in tree.body)
    for node in ast.walk(tree):
        count_node(node, counts)
    return counts


def count_node(node: ast.AST, counts: FileCounts) -> None:
    """Add what one node of the syntax tree shows."""
    if isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple):
        counts.packed += isinstance(node.targets[0], ast.Tuple)
    counts.comprehensions += isinstance(node, COMPREHENSIONS)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        counts.multiplied += is_text_or_list(node.left) and is_condition(node.right)
    name = None
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        name = node.id
    elif isinstance(node, ast.arg):
        name = node.arg
    if name not in (None, "self", "cls"):
        counts.names += 1
        if name.strip("_") in VAGUE:
            counts.vague.append(name)


def is_text_or_list(node: ast.expr) -> bool:
    """Return whether an expression is written as a text, a list or a tuple."""
    is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
    return is_text or isinstance(node, ast.List | ast.Tuple | ast.JoinedStr)


def is_condition(node: ast.expr) -> bool:
    """Return whether an expression is a comparison, a negation or a call of `bool`."""
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id == "bool"
    is_negation = isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not)
    return is_negation or isinstance(node, ast.Compare)


def imported_modules(path: Path) -> Iterator[str]:
    """Yield the names of all modules that a file may import, wherever it does."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imports_between(files: Sequence[Path], root: Path) -> dict[str, set[str]]:
    """Return the modules of the project that each of its modules imports."""
    modules = {}
    for file in files:
        name = ".".join(file.relative_to(root).with_suffix("").parts)
        modules[name.removesuffix(".__init__")] = file
    return {
        module: set(imported_modules(file)) & modules.keys() - {module}
        for module, file in modules.items()
    }


def arrows_between(imports: Mapping[str, set[str]]) -> int:
    """Return the number of pairs of a module and another package of `pipeline` that it imports."""
    pairs = set()
    for module, others in imports.items():
        for other in others:
            package = ".".join(other.split(".")[:2])
            if package != ".".join(module.split(".")[:2]):
                pairs.add((module, package))
    return len(pairs)


def percentile_95(values: Sequence[int]) -> int:
    """Return the 95th percentile, the nearest value."""
    return sorted(values)[round(0.95 * (len(values) - 1))]


def share_of_long_names(folder: Path) -> float:
    """Return the share of tests, in percent, whose name has more than `MOST_WORDS` words."""
    lengths = []
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                lengths.append(node.name.count("_"))
    return 100 * sum(length > MOST_WORDS for length in lengths) / len(lengths)


def figures_of(root: Path, counts: Mapping[Path, FileCounts]) -> dict[str, float]:
    """Return all figures of a checkout, by name."""
    files = counts.values()
    thousands = sum(file.lines for file in files) / 1000
    names = sum(file.names for file in files)
    imports = imports_between([*counts], root)
    fan_out = [len(others) for others in imports.values()]
    return {
        "tokens": sum(file.tokens for file in files),
        "packed": sum(file.packed for file in files) / thousands,
        "comprehensions": sum(file.comprehensions for file in files) / thousands,
        "multiplied": sum(file.multiplied for file in files),
        "vague": 100 * sum(len(file.vague) for file in files) / names,
        "long test names": share_of_long_names(root / "tests"),
        "imports": percentile_95([file.imports for file in files]),
        "fan-out": percentile_95(fan_out),
        "edges": sum(fan_out) / len(fan_out),
        "arrows": arrows_between(imports),
    }


def main() -> None:
    """Print the figures, and the files that are furthest from plain."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, default=Path(__file__).parents[1])
    parser.add_argument("--files", type=int, default=0, help="how many of the worst files to list")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    paths = sorted((options.root / PACKAGE).rglob("*.py"))
    counts = {path: counts_of(path) for path in paths}
    figures = figures_of(options.root, counts)
    above = []
    print(f"{'':<18}{'figure':>10}{'bound':>8}")
    for name, figure in figures.items():
        bound = BOUNDS[name]
        print(f"{name:<18}{figure:>10,.1f}{'' if bound is None else bound:>8}")
        if bound is not None and round(figure, 1) > bound:
            above.append(f"{name} is {figure:,.1f}; at most {bound} is allowed")
    worst = sorted(counts, key=lambda path: len(counts[path].vague) + counts[path].packed)
    for path in worst[::-1][: options.files]:
        file = counts[path]
        print(
            f"{path.relative_to(options.root)}: {file.packed} packed, {len(file.vague)} vague of "
            f"{file.names} names, {file.comprehensions} comprehensions in {file.lines} lines"
        )
    if options.check and above:
        sys.exit("\n".join(above))


if __name__ == "__main__":
    main()
