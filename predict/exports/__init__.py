"""A trained run in the formats that others read; one file a family of formats."""
