"""What probabilities mean: temperature, operating point, uncertainty."""
