"""Build the atlas of regions that lesions are located by."""

import argparse
from pathlib import Path

from cascade_bids.cli.folders import require_outside, written_folders
from cascade_bids.cli.options import add_out, add_verbose, new_parser


def make_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = new_parser("build-atlas", "Build the atlas of regions that lesions are located by.")
    parser.add_argument(
        "sources", type=Path, help="folder of the wmparc labels and the template brain"
    )
    add_out(parser, "where atlas.nii.gz and atlas.json go")
    add_verbose(parser)
    return parser


def run(options: argparse.Namespace) -> int:
    """Build the atlas; return the exit code."""
    from cascade_bids.lesions.build_atlas import write_atlas

    out = written_folders(options.out, None)["output_dir"]
    require_outside("--out", out, options.sources.resolve())
    print(write_atlas(options.sources, out))
    return 0
