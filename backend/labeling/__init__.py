"""Label Studio's label configurations and annotations, turned into targets and back."""
