"""Stage 5: the trained network is measured on a split."""
