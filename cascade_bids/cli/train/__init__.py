"""Commands that train, adapt and combine methods."""
