"""One command a file: its arguments, the job that it starts, and what is printed. Light, without torch."""
