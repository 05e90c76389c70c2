"""Models: the base classes and one folder for each family.

base.py              Model, VisionModel and ImageModel, the base classes
text.py              TextModel, the base class of models of text
capabilities.py      what a model can do, as protocols
conditions.py        labels as condition vectors, condition dropout
ema.py               averaged weights
hyperparameters.py   constructor arguments as plain values, for load_from_checkpoint
image_rewards.py     rewards of images
optimization.py      optimisers, schedules, microbatches, gradient clipping
policy_gradient.py   REINFORCE on sampled tokens, for texts and codes
precision.py         processors on which bfloat16 is slow
schedules.py         values as functions of the images seen
seeds.py             reproducible random numbers, one seed for each sample
step_log.py          what training steps log
token_sampling.py    temperature, top-k and top-p
watermarks.py        signs of noise and green lists of tokens that a key chooses
autoregressive/ classifier/ diffusion/ gan/ vae/ vqvae/   the families; none imports another
"""
