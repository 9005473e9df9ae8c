"""Is there position in the features at all? The paper's Table 1.

    python -m experiments.existence

Pixels, VGG-16 and ResNet-152, five position maps, and images with and without content. With no
flags: small random encoders on generated images, offline, in two minutes on two cores. Expect an
SPC near 0 for pixels, and above .8 for H and V of the encoders.
"""

from experiments.program import main

_COMMON = {
    "paddings": ("zeros",),
    "maps": ("H", "V", "G", "HS", "VS"),
    "test_images": ("dead_leaves", "black", "white", "noise"),
}

if __name__ == "__main__":
    main(
        "existence",
        "Existence of position information",
        paper={"encoder": ("pixels", "vgg16", "resnet152"), **_COMMON},
        demo={"encoder": ("pixels", "vgg8_bn_quarter", "resnet18"), **_COMMON},
    )
