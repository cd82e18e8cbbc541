"""Synthetic scans: label maps and real scans, changed and painted at random."""
