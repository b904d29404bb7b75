"""How the main task is learned."""
