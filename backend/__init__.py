"""The service: HTTP, Label Studio, jobs and the store."""
