"""Is there position in the features at all? The paper's Table 1.

Pixels, VGG-16 and ResNet-152, five position maps, and images with and without content. With no
flags: small random encoders on generated images, offline, in minutes on two cores.
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
        demonstration={"encoder": ("pixels", "vgg8_bn_quarter", "resnet18"), **_COMMON},
    )
