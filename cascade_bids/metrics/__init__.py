"""Measures of agreement between lesion masks."""
