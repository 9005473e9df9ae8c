"""Does a larger readout find more position? The paper's Table 2.

    python -m experiments.readout_capacity

One to three convolutions of 3x3 pixels, and one of 1x1 to 7x7, on pixels and on VGG-16. With no
flags: a random ResNet-20 on generated images, offline, in minutes on two cores. Expect larger
readouts to find more in the encoder, and nothing in pixels.
"""

from experiments.program import main

_COMMON = {
    "paddings": ("zeros",),
    "maps": ("H", "G", "HS"),
    "depths": (1, 2, 3),
    "kernel_sizes": (3, 1, 5, 7),
    "one_at_a_time": True,
}

if __name__ == "__main__":
    main(
        "readout_capacity",
        "Capacity of the readout",
        paper={"encoder": ("pixels", "vgg16"), **_COMMON},
        demo={"encoder": ("pixels", "resnet20"), "image_size": 64, **_COMMON},
    )
