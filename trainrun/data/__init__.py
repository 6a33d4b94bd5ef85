"""What is trained on: data sets that know their splits, shapes and order."""
