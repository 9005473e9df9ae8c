"""Trains encoders with a light decoder to find salient objects, each under a padding mode.

With and without padding on the images and masks of ECSSD, the first 640 to train on, the others to
test on:

    python -m experiments.train_dense --images=ECSSD/images --masks=ECSSD/masks --num_train=640 \\
        --paddings=zeros,valid,reflect,circular --seeds=0,1,2

The encoders then go to the other programs as
`--weights=runs/train_dense/{encoder}-{padding}-seed0/weights.safetensors`. Twelve networks take an
hour on two cores; expect zeros ahead of valid.
"""

from experiments.program import train
from posjax import training

_DEFAULTS = {
    "encoder": "vgg8_bn_quarter",
    "image_size": 96,
    "normalize": "imagenet",
    "batch_size": 16,
    "epochs": 40,
    "crop_margin": 16,
}

if __name__ == "__main__":
    train("train_dense", training.SaliencySettings, training.Saliency, _DEFAULTS)
