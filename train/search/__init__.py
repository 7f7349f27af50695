"""The search for good training flags: the space, its trials, the study and its report."""
