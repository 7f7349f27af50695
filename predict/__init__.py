"""Stage 6: the trained network reads the digit in an image."""
