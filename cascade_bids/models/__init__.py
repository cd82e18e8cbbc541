"""Methods that find lesions: their cards, weights and networks."""
