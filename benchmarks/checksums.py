"""Whether two runs gave the same bytes: masks, tables, transforms and statistics.

Usage: python benchmarks/checksums.py BEFORE AFTER

BEFORE and AFTER are output folders of the participant and group levels on the same images.
"""

import argparse
import hashlib
import json
from pathlib import Path

MAY_DIFFER = (".html", ".md", "dataset_description.json")
"""Ends of the names of reports and descriptions, whose words and links may differ."""


def hash_files(folder: Path) -> dict[str, str]:
    """Return a hash of each file below a folder; of JSON without the words of descriptions."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(_read(path)).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _read(path: Path) -> bytes:
    if path.suffix != ".json":
        return path.read_bytes()
    content = json.loads(path.read_text(), object_hook=_without_description)
    return json.dumps(content).encode()


def _without_description(entries: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in entries.items() if name != "Description"}


def main() -> None:
    """Print which files differ; exit with 1 when one does that must not."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    options = parser.parse_args()
    before, after = hash_files(options.before), hash_files(options.after)
    differing = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    wrong = [name for name in differing if not name.endswith(MAY_DIFFER)]
    for name in differing:
        print(f"{'DIFFERS' if name in wrong else 'other words'}: {name}")
    print(f"{len(before)} files, {len(before) - len(differing)} equal, {len(wrong)} wrong")
    raise SystemExit(bool(wrong))


if __name__ == "__main__":
    main()
