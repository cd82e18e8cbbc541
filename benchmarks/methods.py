"""Leave-one-out scores of every published method, trained for equally long: one table.

Usage: python benchmarks/methods.py BIDS_DIR WORK_DIR [--max-minutes N] [--participant-label …]

BIDS_DIR holds brain-extracted images with lesion masks. A run with the same work folder goes on
where it broke off. The rows of ALL-Net are its ablation, one network each; with five that vote as
published, each would have a fifth of the time.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import pandas as pd

OPTIONS = {
    "valverde2017": ["--contrasts", "FLAIR", "T1w"],
    "nicmslesions": ["--contrasts", "T1w", "FLAIR"],
    "msseg2016": ["--contrasts", "FLAIR", "T1w", "T2w"],
    **{
        method: ["--contrasts", "FLAIR", "T1w", "T2w", "--seeds", "1"]
        for method in ("allnet-base", "allnet-anaconv", "allnet-lesloss", "allnet")
    },
}
"""What each method is given; the contrasts in the order of its channels."""


def cross_validate(method: str, options: argparse.Namespace) -> pd.DataFrame | None:
    """Train and score one method; give its rows of the table, or None if it failed."""
    out = options.work_dir / method / "out"
    command = ["cascade-bids", "crossval", str(options.bids_dir), "--method", method]
    command += [*OPTIONS[method], "--skull-strip", "skip", "-v"]
    command += ["--max-minutes", str(options.max_minutes), "--out", str(out)]
    command += ["--work-dir", str(options.work_dir / method / "work")]
    if options.participant_label:
        command += ["--participant-label", *options.participant_label]
    program = Path(sys.executable).with_name(command[0])
    code = subprocess.run([program, *command[1:]], check=False).returncode
    if code:
        print(f"{method} failed with exit code {code}, see above")
        return None
    scores = out / options.bids_dir.absolute().name / "evaluation.tsv"
    table = pd.read_csv(scores, sep="\t", dtype={"participant_id": str})
    table.insert(0, "trained_as", method)
    return table.drop(columns=["prediction_file", "reference_file"])


def main() -> None:
    """Print all metrics: a row for each method and scan, in blocks as wide as a page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bids_dir", type=Path)
    parser.add_argument("work_dir", type=Path)
    parser.add_argument("--max-minutes", type=float, default=10, help="of training for each fold")
    parser.add_argument("--participant-label", nargs="+", default=[])
    parser.add_argument("--methods", nargs="+", choices=OPTIONS, default=list(OPTIONS))
    options = parser.parse_args()
    tables = [cross_validate(method, options) for method in options.methods]
    table = pd.concat([one for one in tables if one is not None])
    rows = table.set_index(["trained_as", "participant_id"])
    print(rows.to_string(line_width=110, float_format="{:.3f}".format))


if __name__ == "__main__":
    main()
