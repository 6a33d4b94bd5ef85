"""Drawing for people: lines, columns, colour, braille curves and charts of text."""
