"""From a Keras file to a text and its weights, without Keras."""
