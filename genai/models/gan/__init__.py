"""Generative adversarial networks.

gan: the LightningModule, for every objective and pair of networks.
objectives: losses of the discriminator and the generator.
steps: one optimiser step, with microbatches, clipping and a policy for non-finite values; schedules; the count of batches.
latents: the layout of a latent vector and the condition of both networks.
cluster_conditioning: k-means clusters as conditions instead of labels, with a diversity loss.
augmentation: differentiable augmentation of the discriminator's input, and adaptive control of its probability.
resampling: one of several candidates per seed, chosen by the discriminator.
realness: mean realness of held-out images.
"""
