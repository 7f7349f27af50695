"""Going on learning: new images improve a trained run, and what it knew is kept."""
