"""Whether the numbers of a scan can be trusted: measures of its images, and a verdict."""
