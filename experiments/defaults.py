"""What programs take where a flag is not given: the paper's recipe, or a demonstration's."""

# The paper's recipe, where a program has no other. Endless sources have no number of images of
# their own.
PAPER = {
    "encoder": ("vgg16",),
    "image_size": 224,
    "batch_size": 32,
    "epochs": 15,
    "endless_train": 200,
    "endless_test": 100,
}
# What runs in one minute on two cores where nobody says which encoder or images.
DEMONSTRATION = {
    "encoder": ("vgg8_bn_quarter",),
    "image_size": 96,
    "batch_size": 4,
    "epochs": 6,
    "endless_train": 32,
    "endless_test": 16,
}


def in_words(name: str) -> str:
    """Both defaults of a flag, for its help line."""
    paper, demonstration = (
        ",".join(value) if isinstance(value, tuple) else value
        for value in (PAPER[name], DEMONSTRATION[name])
    )
    return f"Default: {paper}, in the demonstration {demonstration}."
