"""Stage 2: TFRecords become batches of images and labels."""
