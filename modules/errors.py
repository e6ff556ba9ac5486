"""Failures of finding, checking and loading modules."""

from schemas.errors import AnalysisError, ErrorCode


class _ModuleError(AnalysisError):
    _code: ErrorCode

    def __init__(self, message: str) -> None:
        super().__init__(self._code, message)


class ModuleNotFound(_ModuleError):
    """No module has this name, folder or import path."""

    _code = ErrorCode.MODULE_NOT_FOUND


class ModuleInvalid(_ModuleError):
    """The module's code does not follow the module contract."""

    _code = ErrorCode.MODULE_INVALID


class ModuleLoadFailed(_ModuleError):
    """The module's code could not be imported, or its model could not be loaded."""

    _code = ErrorCode.MODULE_LOAD_FAILED


class ModuleOutputInvalid(_ModuleError):
    """What the module answered breaks the module contract."""

    _code = ErrorCode.MODULE_OUTPUT_INVALID
