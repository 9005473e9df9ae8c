"""One program for each question; a grid over probes, told by flags."""
