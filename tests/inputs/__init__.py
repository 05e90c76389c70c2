"""Odd inputs that people have on their disks, each with the outcome that is right."""
