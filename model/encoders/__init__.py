"""Pretrained networks that turn an image into a vector or into feature maps."""
