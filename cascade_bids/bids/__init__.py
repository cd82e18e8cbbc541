"""BIDS input and output: the images of a scan, and the paths of its derivatives."""
