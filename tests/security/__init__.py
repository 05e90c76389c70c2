"""Attacks on whoever reads a run from elsewhere; their payloads touch a file and do nothing else."""
