"""Those that train the same model, a file for each. Some import torchvision: its operators come first."""

from trainrun.runtime.vision import declare_missing_operators

declare_missing_operators()
