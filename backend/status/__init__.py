"""What people are told of a project: the read side."""
