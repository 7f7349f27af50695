"""Several runs measured on one split, side by side."""
