"""One file for each verb, found by its name.

NAME.py has the docstring `genai NAME: HELP`, then a line `Group: GROUP` (the group in `genai --help`), and a function
`run(arguments)` for what follows the verb on the command line.
"""
