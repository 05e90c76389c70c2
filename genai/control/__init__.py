"""Control of generation.

explanations.py: which pixels a score depends on, and whether that is faithful.
latent_search.py: the latent of an image.
paths.py: paths between two latents.
"""
