"""Under which licence a model may be given that was made from another one.

This is a reading of the licences' own words for the usual cases, not legal advice: where it knows no rule, it allows
the parent's own licence only.
"""

from typing import Final

from s2d_zoo.errors import ConfigError

#: who keeps their notice may choose any licence for what they make of it
_PERMISSIVE: Final = (
    "MIT",
    "BSD-",
    "Apache-",
    "ISC",
    "CC0-",
    "Unlicense",
    "0BSD",
    "Zlib",
    "CC-BY-1",
    "CC-BY-2",
    "CC-BY-3",
    "CC-BY-4",
)
#: what is made of it must be given under the same licence
_SHARE_ALIKE: Final = ("CC-BY-SA-", "CC-BY-NC-SA-", "GPL-", "AGPL-", "LGPL-", "MPL-", "EUPL-", "OSL-")
#: nothing that is made of it may be given at all
_NO_DERIVATIVES: Final = ("CC-BY-ND-", "CC-BY-NC-ND-")
#: what is made of it must not be sold, so its licence must say so, too
_NON_COMMERCIAL: Final = ("CC-BY-NC-",)


def check_licence(parent: str | None, chosen: str) -> None:
    """Refuse a licence that the parent's does not allow.

    Args:
        parent: SPDX identifier of the model that was finetuned; ``None`` where it states none.
        chosen: SPDX identifier for the new one.

    Raises:
        ConfigError: with the reason.
    """
    reason = _reason_against(parent, chosen)
    if reason:
        msg = f"A model made from one under {parent or 'no licence'} cannot be given under {chosen}: {reason}"
        raise ConfigError(msg)


def _reason_against(parent: str | None, chosen: str) -> str | None:
    if parent is None:
        return "without a licence nothing of it may be given to others. Ask its authors."
    if parent.startswith(_NO_DERIVATIVES):
        return "its licence forbids to give away what was made from it (no derivatives). Ask its authors."
    if parent == chosen or parent.startswith(_PERMISSIVE):
        return None
    if parent.startswith(_SHARE_ALIKE):
        demand = "its licence demands the same one (share alike)"
    elif not parent.startswith(_NON_COMMERCIAL):
        demand = "it is not known to allow another licence"
    elif chosen.startswith(_NON_COMMERCIAL) and not chosen.startswith(_NO_DERIVATIVES):
        return None
    else:
        demand = "its licence excludes commercial use, and the new one must, too"
    return f"{demand}. Say --license {parent}."
