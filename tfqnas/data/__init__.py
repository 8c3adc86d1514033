"""Data sets, their splits and the two ways to read them: augmented batches and fixed evaluation images."""

from tfqnas.data.dataset import DataSet, load
from tfqnas.data.pipeline import Augmentation, resized, training_batches

__all__ = ["Augmentation", "DataSet", "load", "resized", "training_batches"]
