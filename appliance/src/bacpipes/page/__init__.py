"""The page on site: what a technician or an operator does in a browser."""
