"""Differentiable quantization strategy search (DQSS): each tensor learns which of several quantizers suits it best.

result = tfqnas.dqss.search_post_training(model, images, tfqnas.dqss.PostTrainingSettings(bits=4))
result.model.save("quantized.keras")
"""

import lazy_loader

# Imported on first use, since settings need no TensorFlow.
__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "freezing": ["freeze"],
        "post_training": ["search_post_training"],
        "quantize_settings": ["PostTrainingSettings", "TrainingSettings"],
        "training": ["search_training"],
    },
)
