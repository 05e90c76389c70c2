"""`python cli.py`: the command line, the same program as the console script `genai`."""

from genai.cli import main

raise SystemExit(main())
