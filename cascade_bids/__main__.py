"""``python -m cascade_bids``, the same as ``cascade-bids``."""

from cascade_bids.cli.main import console

if __name__ == "__main__":
    console()
