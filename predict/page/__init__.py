"""What is on a picture: ink apart from paper, ruled lines taken away, pieces, lines of text."""
