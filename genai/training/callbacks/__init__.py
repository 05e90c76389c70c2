"""Callbacks of a fit; each can be given to a Trainer by itself.

announcement.py    sizes of the networks and images per step, printed before the first step
averages.py        snapshots of averaged weights, and a warning if they never changed
axis.py            images_seen as the x-axis of every logger
checkpoints.py     best.ckpt and last.ckpt
collapse.py        mode collapse
cost.py            time, memory and operations
energy.py          energy, by codecarbon
gallery.py         a grid of samples after an epoch
options.py         options of an optimiser that were changed for a resumed run
preemption.py      stopping by a signal
progress.py        progress bar or lines
pruning.py         scores of a trial of a sweep, and its early end
evaluation.py      metrics of samples while fitting, validating and testing
randomness.py      random numbers as a function of the images seen
record.py          a run directory for a fit without the command line
run_directory.py   the path of the run directory, for other callbacks
text_evaluation.py scores of text models when validating and testing
throughput.py      images or tokens per second
"""
