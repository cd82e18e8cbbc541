"""The networks: architectures, dense evaluation, cascade, brain extraction, weights."""
