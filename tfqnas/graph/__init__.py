"""What a Keras model computes: read once (`reading`), rewritten with quantizers (`rewriting`)."""
