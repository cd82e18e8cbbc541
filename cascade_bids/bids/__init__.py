"""BIDS in and out: which images a scan has, where its derivatives go."""
