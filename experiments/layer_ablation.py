"""Which layer's padding carries the position?

    python -m experiments.layer_ablation

One layer at a time is padded by zeros in an encoder that pads by reflection, and the other way
round. With no flags: a random ResNet-20 on generated images, offline, in minutes on two cores.
Expect a single layer to bring part of what all layers bring, and next to no loss without it.
"""

from experiments.program import main

_COMMON = {"paddings": ("zeros", "reflect", "reflect+each=zeros", "zeros+each=reflect")}

if __name__ == "__main__":
    main(
        "layer_ablation",
        "Position by layer",
        paper=_COMMON,
        demo={"encoder": ("resnet20",), "image_size": 64, "maps": ("H", "G"), **_COMMON},
    )
