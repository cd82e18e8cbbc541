"""Find multiple-sclerosis lesions in brain MRI: a BIDS App."""
