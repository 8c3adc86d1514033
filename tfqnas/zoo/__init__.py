"""Networks to quantize: small ones to train here, and one with ImageNet weights. Importing this loads no TensorFlow.

model = tfqnas.zoo.build("mobilenet_small", num_classes=10, channels=1, size=28)
model = tfqnas.zoo.load("efficientnet_lite0")
"""

import lazy_loader

# The networks of `build`, by task.
CLASSIFIERS = ("mobilenet_small", "resnet_small")
SUPER_RESOLUTION = ("edsr", "srresnet")
SEGMENTATION = ("segmenter_small",)
NAMES = CLASSIFIERS + SUPER_RESOLUTION + SEGMENTATION

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "labelled": ["labelled_photos"],
        "networks": ["build", "load"],
        "sizes": ["with_input_size", "with_normalization"],
        "super_resolution": ["with_pixel_output"],
        "upscaling": ["upscaled"],
    },
)
