"""From the words in the shell to live parts: compose, check, build."""
