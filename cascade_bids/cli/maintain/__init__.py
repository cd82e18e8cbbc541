"""Commands of maintainers, who make what comes with the program."""
