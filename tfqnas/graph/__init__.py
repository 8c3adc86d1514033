"""Reads what a Keras model computes (`reading`) and rewrites it with quantized layers (`rewriting`)."""
