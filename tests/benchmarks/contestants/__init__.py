"""Those that train the same model, a file for each. Frameworks may import torchvision: its operators first."""

from trainrun.runtime.vision import declare_missing_operators

declare_missing_operators()
