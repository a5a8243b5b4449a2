"""What can go wrong, as a tree.

    S2DZooError
    ├── UserInputError (also ValueError)   what was asked for cannot be done as asked
    │   ├── AxesError                      axes that are missing, unknown or in conflict
    │   ├── ConfigError                    an option out of range, or options at odds
    │   ├── ScribbleError                  strokes that no classifier can learn from
    │   └── ContractMismatchError          a forest whose output an enhancer cannot take
    ├── ImageFileError                     an image file that cannot be read or written
    ├── ProjectFileError                   an ilastik project that cannot be read
    ├── SavedFileError                     a file of ours that is damaged or not ours
    │   └── UnsupportedFormatVersionError  a file of ours from a newer s2d-zoo
    ├── PackageError                       a bioimage.io package that cannot be used
    │   └── UnsafePackageError             one that must not even be opened
    ├── NotImprovedError                   training that ended no better than it began
    ├── DownloadError                      a file that could not be fetched, or is not the one expected
    └── UploadError                        a package that could not be published

Every message says what was expected, what was found, where, and what to try. A *check* of a package
that fails is a result, not an exception.
"""


class S2DZooError(Exception):
    """Root of all errors that s2d-zoo raises on purpose."""


class UserInputError(S2DZooError, ValueError):
    """What was asked for cannot be done as asked."""


class AxesError(UserInputError):
    """Axes that are missing, unknown, or in conflict with the shape."""


class ConfigError(UserInputError):
    """An option out of its range, or options that contradict each other."""


class ScribbleError(UserInputError):
    """Strokes that no classifier can learn from."""


class ContractMismatchError(UserInputError):
    """A forest whose output does not fit what an enhancer takes."""


class ImageFileError(S2DZooError):
    """An image file that cannot be read or written."""


class ProjectFileError(S2DZooError):
    """An ilastik project file that cannot be read."""


class SavedFileError(S2DZooError):
    """A file written by s2d-zoo that is damaged, or is not one."""


class UnsupportedFormatVersionError(SavedFileError):
    """A file written by a newer s2d-zoo than this one."""


class PackageError(S2DZooError):
    """A bioimage.io package that cannot be used."""


class UnsafePackageError(PackageError):
    """A bioimage.io package that must not be opened."""


class NotImprovedError(S2DZooError):
    """Training that ended no better than it began; nothing is returned in its place."""


class DownloadError(S2DZooError):
    """A file that could not be fetched, or is not the one expected."""


class UploadError(S2DZooError):
    """A package that could not be published, or that the zoo refuses."""
