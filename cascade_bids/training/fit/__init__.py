"""Training loops: one for all networks, and the batches of each kind."""
