"""Views of a run: functions of an event that hold no reference to it."""
