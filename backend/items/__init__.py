"""What is shown to annotators: the image of a task."""
