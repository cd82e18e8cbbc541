"""Phantoms: BIDS datasets with known lesions, for the demo and the tests."""

from cascade_bids.phantom.compare import compare_loads
from cascade_bids.phantom.dataset import PhantomScan, TrueLesion, write_phantom
from cascade_bids.phantom.head import Head, make_head

__all__ = ["Head", "PhantomScan", "TrueLesion", "compare_loads", "make_head", "write_phantom"]
