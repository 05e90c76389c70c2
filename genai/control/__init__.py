"""Control of generation.

latent_search.py: the latent of an image.
paths.py: paths between two latents.
"""
