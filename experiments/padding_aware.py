"""Which channels see the border itself, and what is lost without them?

    python -m experiments.padding_aware

With no flags: the CIFAR-10 ResNet-20 that comes with posjax, trained with zeros, beside random
ones; on generated images, offline, in a minute or two on two cores.
"""

from experiments.program import main
from posjax.ppp import find_aware

_COMMON = {"paddings": ("zeros",), "controls": ("none",)}
_DEMO = _COMMON | {"encoder": ("resnet20",), "weights": ("cifar10", "random")}

if __name__ == "__main__":
    main(
        "padding_aware",
        "Padding-aware channels",
        paper=_COMMON,
        demo=_DEMO,
        run=find_aware,
    )
