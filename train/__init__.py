"""Stage 4: the network learns; its run folder keeps everything about it."""
