"""Callbacks of a fit; each can be given to a Trainer by itself.

announcement.py    what a step is, before the first one
averages.py        snapshots of averaged weights, and a warning where they never changed
axis.py            images_seen as the x-axis of every logger
checkpoints.py     best.ckpt and last.ckpt
collapse.py        mode collapse
gallery.py         a grid of samples after an epoch
options.py         options of an optimiser that were changed for a resumed run
preemption.py      stopping by a signal
progress.py        how far a fit is
evaluation.py      metrics of samples while fitting, validating and testing
randomness.py      random numbers as a function of the images seen
record.py          a run directory for a fit without the command line
run_directory.py   where callbacks find the run directory
throughput.py      images per second
"""
