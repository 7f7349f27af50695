"""Stage 1: a dataset becomes sharded TFRecords and a manifest."""
