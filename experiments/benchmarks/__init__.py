"""What the benchmark measures, and the PyTorch code that it measures against."""
