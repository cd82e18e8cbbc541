"""What the commands do: arguments to a frozen config, one call, an exit code."""
