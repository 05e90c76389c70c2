"""Tests of the scripts in benchmarks/, not of any speed."""
