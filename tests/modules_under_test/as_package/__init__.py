from .detector import AsPackage

__all__ = ["AsPackage"]
