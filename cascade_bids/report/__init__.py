"""HTML reports: one for each participant, one for the cohort, one for an evaluation."""
