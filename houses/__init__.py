"""Houses from three parts: a lab for joining Kafka streams.

The public names stand in `__init__.pyi`, and are loaded when they are first used: `import houses` and the consumer stay light.
Which folder holds what is told in README.md, "Where to look".
"""

import lazy_loader

__version__ = "1.0.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
