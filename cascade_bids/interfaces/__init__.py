"""Nipype interfaces, which read files, call functions of the package and write files."""
