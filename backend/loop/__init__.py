"""The write side: facts of a project, the table of decisions, and the steps and jobs that it calls for."""
