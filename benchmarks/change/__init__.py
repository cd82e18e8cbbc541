"""How well change between sessions is found, on scans whose change is known."""
