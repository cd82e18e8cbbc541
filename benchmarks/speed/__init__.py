"""How fast the program is: beside an older build, other programs and what a file system allows."""
