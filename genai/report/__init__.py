"""Results of several models or images in one place.

evaluate.py       `genai.evaluate`: scores of images that are already in memory
pictures.py       pictures that any program made, as arrays
credentials.py    signed content credentials (C2PA) of picture files
comparison.py     runs and groups of seeds in one table
html/             `genai report`: one HTML file about runs
play/             `genai play`: models in a browser
leaderboard.py    docs/results/leaderboard.md from zoo/*/metrics.json; `python -m genai.report.leaderboard` writes it
"""
