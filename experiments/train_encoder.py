"""Trains encoders to classify images, each under a padding mode of its own.

For ResNet-20 on CIFAR-10, out of folders of class folders:

    python -m experiments.train_encoder --images=cifar10/train --test_images=cifar10/test \\
        --paddings=zeros,reflect,circular --workdir=runs/cifar10

Its weights then go to the other programs as `--weights=runs/cifar10/…/weights.safetensors`. A
ResNet-20 takes hours on two cores; expect 82 to 84 % of the test images after 30 epochs.
"""

from experiments.program import train
from posjax import training

if __name__ == "__main__":
    train("train_encoder", training.TrainingSettings, training.Classification)
