"""Control of generation.

paths.py: paths between two latents.
"""
