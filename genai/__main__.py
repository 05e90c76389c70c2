"""`python -m genai`: the command line."""

from genai.cli import main

raise SystemExit(main())
