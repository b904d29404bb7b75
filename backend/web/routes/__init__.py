"""Routes besides label-studio-ml's, by subject."""
