"""How much position does each padding mode put into an encoder?

With no flags: a random VGG on generated images, offline, in two minutes on two cores.
"""

from experiments.program import main

if __name__ == "__main__":
    main("padding_ablation", "Padding ablation")
