"""Label, measure and locate the lesions of a probability map."""
