"""Pages for people: one for each participant, one for the cohort."""
