"""Walks in latent space."""
