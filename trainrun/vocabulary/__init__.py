"""What every other package may use: events, errors, durations, ranges and seeds; standard library only."""
