"""Search on several machines with the chief and the workers of keras-tuner."""
