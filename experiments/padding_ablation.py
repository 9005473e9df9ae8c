"""How much position does each padding mode put into an encoder?

    python -m experiments.padding_ablation

With no flags: a small random VGG on generated images, offline, in less than a minute on two cores.
Expect an SPC above .9 under zeros, and intervals around 0 to .3 under every other mode.
"""

from experiments.program import main

if __name__ == "__main__":
    main("padding_ablation", "Padding ablation")
