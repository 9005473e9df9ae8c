"""Trains encoders to classify images, each under a padding mode of its own.

For ResNet-20 on CIFAR-10, out of folders of class folders:

    python -m experiments.train_encoder --images=cifar10/train --test_images=cifar10/test \\
        --paddings=zeros,reflect,circular --workdir=runs/cifar10

Its weights then go to the other programs as `--weights=runs/cifar10/…/weights.safetensors`.
"""

from experiments import training_flags
from experiments.program import guarded
from posjax import training

if __name__ == "__main__":
    training_flags.adapt()
    guarded(lambda: training.run(training_flags.settings("train_encoder"), training.CLASSES))
