"""The networks, one file for each architecture."""
