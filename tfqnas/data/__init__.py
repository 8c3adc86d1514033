"""Data sets, their splits and the two ways to read them: augmented batches and fixed evaluation images.

Nothing is imported here: `tfqnas.data.data_config` must be readable without TensorFlow.
"""
