"""Under which licence a model may be given that was made from another one.

This is a reading of the licences' own words for the usual cases, not legal advice: where it knows no rule, it allows
the parent's own licence only.
"""

import re
from typing import Final

from s2d_zoo.errors import ConfigError

#: nothing is demanded
_PUBLIC: Final = frozenset({"CC0-1.0", "Unlicense", "0BSD", "MIT-0"})
#: who keeps the names of the makers may choose any licence that does so, too, for what they make of it
_PERMISSIVE: Final = re.compile(r"MIT|BSD-[23]-Clause|Apache-[12]\.[01]|ISC|Zlib|CC-BY-[1-4]\.[05]")
#: what is made of it must be given under the same licence; family and version
_SHARE_ALIKE: Final = re.compile(r"(CC-BY-SA|CC-BY-NC-SA|[AL]?GPL|MPL|EUPL|OSL)-(\d\.\d)(.*)")
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
    if parent == chosen or parent in _PUBLIC or _is_later_version(parent, chosen):
        return None
    if _PERMISSIVE.fullmatch(parent):
        if chosen not in _PUBLIC:
            return None
        demand = f"its licence demands that its makers are named, which {chosen} does not"
    elif _SHARE_ALIKE.fullmatch(parent):
        demand = "its licence demands the same one (share alike)"
    elif not parent.startswith(_NON_COMMERCIAL):
        demand = "it is not known to allow another licence"
    elif chosen.startswith(_NON_COMMERCIAL) and not chosen.startswith(_NO_DERIVATIVES):
        return None
    else:
        demand = "its licence excludes commercial use, and the new one must, too"
    return f"{demand}. Say --license {parent}."


def _is_later_version(parent: str, chosen: str) -> bool:
    """Whether a share-alike licence allows this later version of itself."""
    before, after = _SHARE_ALIKE.fullmatch(parent), _SHARE_ALIKE.fullmatch(chosen)
    if before is None or after is None or before[1] != after[1] or float(after[2]) < float(before[2]):
        return False
    return (before[1].startswith("CC-") and not before[3]) or before[3] == "-or-later"
