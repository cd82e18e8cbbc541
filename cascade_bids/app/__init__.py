"""The commands on a dataset: participant level, group level, plan and doctor."""
