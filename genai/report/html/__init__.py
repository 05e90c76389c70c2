"""`genai report`: one HTML file about one or several runs, which opens without a network.

content.py       what a report says about a run, read from its files and measured from its model
nearest.py       nearest training images of samples
charts.py        curves, class shares, quality against time
pictures.py      pictures as data URIs
page.py          from runs to the file
page.html.jinja  the layout
"""
