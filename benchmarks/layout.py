"""How the code is laid out: files of a folder, share of the code, tests on classes of networks.

Usage: python benchmarks/layout.py
"""

import ast
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "cascade_bids"
CALLS = ("isinstance", "issubclass", "type", "hasattr")
"""Ways to tell networks apart by their class."""


def network_classes() -> set[str]:
    """Return the names of all classes of networks, and those by which cards call them."""
    names = {"LesionNetwork", "TrainableNetwork", "Architecture"}
    for path in (PACKAGE / "models" / "architectures").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                names.add(node.name)
                for decorator in node.decorator_list:
                    if isinstance(decorator, ast.Call) and isinstance(
                        decorator.args[0], ast.Constant
                    ):
                        names.add(str(decorator.args[0].value))
    return names


def find_class_tests(path: Path, names: set[str]) -> list[int]:
    """Return the lines of a file where a network is told by its class, or by its name."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        by_call = (
            isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in CALLS
        )
        if not (by_call or isinstance(node, ast.Compare | ast.MatchClass | ast.MatchValue)):
            continue
        words = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
        words |= {str(part.value) for part in ast.walk(node) if isinstance(part, ast.Constant)}
        if words & names:
            found.append(node.lineno)
    return found


def main() -> None:
    """Print all figures."""
    files = sorted(PACKAGE.rglob("*.py"))
    lines = Counter[Path]()
    for path in files:
        lines[path.parent] += len(path.read_text().splitlines())
    counts = Counter(path.parent for path in files)
    total = sum(lines.values())
    (most, number), (largest, share) = counts.most_common(1)[0], lines.most_common(1)[0]
    print(f"folder with most files: {most.relative_to(ROOT)}, {number}")
    print(f"largest folder: {largest.relative_to(ROOT)}, {100 * share / total:.0f} % of {total}")
    longest = max(files, key=lambda path: len(path.read_text().splitlines()))
    length = len(longest.read_text().splitlines())
    print(f"longest file: {longest.relative_to(ROOT)}, {length} lines")
    names = network_classes()
    tests = {
        path: found
        for path in files
        if "models" not in path.relative_to(PACKAGE).parts
        if (found := find_class_tests(path, names))
    }
    print(f"tests on classes of networks outside models: {sum(map(len, tests.values()))}")
    for path, found in tests.items():
        print(f"  {path.relative_to(ROOT)}: lines {found}")
    readme = (ROOT / "README.md").read_text().splitlines()
    print(f"README: {len(readme)} lines")
    print(f"docs/weights.md: {len((ROOT / 'docs' / 'weights.md').read_text().split())} words")


if __name__ == "__main__":
    main()
