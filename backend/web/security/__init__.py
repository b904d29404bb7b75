"""Authentication, checks of a request's origin, and limits of requests and answers."""
