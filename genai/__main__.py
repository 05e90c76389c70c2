from genai.cli import main

raise SystemExit(main())
