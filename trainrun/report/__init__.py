"""Tables from stored runs, as text: nothing here prints, trains or knows the command line."""
