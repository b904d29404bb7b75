"""What happens next in a project, and the steps that make it happen."""
