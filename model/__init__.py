"""PyTorch only: arrays in, arrays out."""
