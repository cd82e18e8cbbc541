"""Nipype workflows, and how they are run."""
