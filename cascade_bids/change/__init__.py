"""What changed between the sessions of a participant."""
