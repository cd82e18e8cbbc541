"""From a probability map to lesions, their places and volumes."""
