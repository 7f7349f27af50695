"""The server: a page to draw on, TensorFlow Serving's API, and corrections that are kept."""
