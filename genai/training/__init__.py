"""What fit, validate, test and predict do.

launch.py          runs a verb and prints where its results are
arguments.py       command-line arguments -> LightningCLI's arguments; errors in one line
lightning_cli.py   GenaiCLI: arguments, the trainer with our callbacks and loggers
initialisation.py  weights and rewards from other runs
checks.py          what is refused before a run directory exists
restoring.py       what a checkpoint has to hold before it is restored
record.py          run.json and config.yaml
devices.py         devices, processes, strategy
cluster.py         SLURM and torchrun
sharding.py        FSDP
locks.py           one fit at a time in a run directory
loggers.py         metrics.csv and trackers
sweep.py           trials of a sweep, and the seeds of its winner
study.py           the trials in SQLite, by Optuna
search.py          search spaces
callbacks/         callbacks of a fit
"""
