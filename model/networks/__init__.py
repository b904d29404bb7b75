"""Our own backbones and heads."""
