"""What probabilities mean: operating point, uncertainty."""
