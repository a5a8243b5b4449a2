"""A package's description in the latest format, as bioimageio.spec understands it."""

import warnings

from bioimageio.spec import load_description
from bioimageio.spec.common import InvalidDescr
from bioimageio.spec.model.v0_5 import ModelDescr

from s2d_zoo.data.package_contents import PackageContents
from s2d_zoo.errors import PackageError


def read_model_description(contents: PackageContents) -> ModelDescr:
    """The description in the latest format, defaults filled in; the files that it names are not looked at.

    Raises:
        PackageError: if it is not valid, of a format before 0.4, or of something that is no model.
    """
    version = str(contents.rdf.get("format_version"))
    if not version.startswith(("0.4.", "0.5.")):
        msg = (
            f"expected format version 0.4.x or 0.5.x, found {version}. For an older one, run "
            "'bioimageio update-format' on the unpacked package."
        )
        raise PackageError(msg)
    reason = None
    # bioimageio.spec warns of what it fills in for an old format, and leaves files to the garbage collector, together
    # with the error that it raises: so that is forgotten here
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            description = load_description(
                contents.folder / contents.rdf_name, format_version="latest", perform_io_checks=False
            )
        except Exception as error:  # noqa: BLE001 - of hostile content anything may be raised
            reason = f"the description cannot be read: {error}"
    if reason is not None:
        raise PackageError(reason)
    if isinstance(description, InvalidDescr):
        entries = (f"{'.'.join(map(str, entry.loc))}: {entry.msg}" for entry in description.validation_summary.errors)
        raise PackageError("; ".join(entries))
    if not isinstance(description, ModelDescr):
        msg = f"expected a model, found type {description.type}"
        raise PackageError(msg)
    return description
