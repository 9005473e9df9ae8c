"""One program for each question."""
