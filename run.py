#!/usr/bin/env python3
"""Run cascade_bids as a BIDS App, in the environment of `make env` when none is active."""

import os
import sys
from pathlib import Path

python = str(Path(__file__).resolve().parent / ".venv/bin/python")
if sys.prefix == sys.base_prefix and Path(python).exists():
    os.execv(python, [python, *sys.argv])
if __name__ == "__main__":
    __import__("cascade_bids.cli.main", fromlist=["console"]).console()
