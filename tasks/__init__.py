"""Tasks: one file a task, named as on the command line; files that begin with an underscore are helpers and no tasks."""
