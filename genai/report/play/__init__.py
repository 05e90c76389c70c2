"""`genai play`: trained models in a browser on this machine.

controls.py   which controls a model gets, from its capabilities
actions.py    what each control does: images as PIL pictures
text.py       runs of models of text
drawing.py    from strokes on a canvas to an image of the model's size
page.py       the Gradio page, the only module here that imports Gradio
"""
