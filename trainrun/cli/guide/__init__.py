"""What to choose when, and where guides err: a Markdown file per topic, and their reader."""
