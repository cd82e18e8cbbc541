"""What the command line understands: pure parsers, without heavy imports."""
