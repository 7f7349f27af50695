"""Stage 3: a text file becomes a network; what a run folder holds."""
