"""What may become of a model under which licence."""

import pytest
from bioimageio.spec.utils import get_spdx_licenses
from hypothesis import given
from hypothesis import strategies as st

from s2d_zoo.errors import ConfigError
from s2d_zoo.export.licences import check_licence

KNOWN = [entry["licenseId"] for entry in get_spdx_licenses()["licenses"]]


@pytest.mark.parametrize(
    ("parent", "chosen"),
    [
        ("MIT", "CC-BY-4.0"),
        ("CC-BY-4.0", "MIT"),
        ("CC0-1.0", "GPL-3.0-only"),
        ("Apache-2.0", "MIT"),
        ("CC-BY-NC-4.0", "CC-BY-NC-SA-4.0"),
        ("CC-BY-SA-4.0", "CC-BY-SA-4.0"),
        ("GPL-3.0-only", "GPL-3.0-only"),
        ("CC-BY-SA-3.0", "CC-BY-SA-4.0"),
        ("GPL-2.0-or-later", "GPL-3.0-or-later"),
        ("BSD-3-Clause", "CC-BY-NC-SA-4.0"),
    ],
)
def test_what_the_parent_allows_is_allowed(parent, chosen):
    check_licence(parent, chosen)


@pytest.mark.parametrize(
    ("parent", "chosen", "words"),
    [
        ("CC-BY-SA-4.0", "MIT", r"share alike\). Say --license CC-BY-SA-4.0"),
        ("GPL-3.0-or-later", "MIT", "share alike"),
        ("CC-BY-NC-4.0", "MIT", "excludes commercial use"),
        ("CC-BY-NC-4.0", "CC-BY-4.0", "excludes commercial use"),
        ("CC-BY-NC-4.0", "CC-BY-NC-ND-4.0", "excludes commercial use"),
        ("CC-BY-NC-SA-4.0", "CC-BY-NC-4.0", "share alike"),
        ("CC-BY-ND-4.0", "CC-BY-ND-4.0", "no derivatives"),
        ("CC-BY-NC-ND-4.0", "CC-BY-NC-ND-4.0", "no derivatives"),
        ("CC-BY-4.0", "CC0-1.0", "demands that its makers are named, which CC0-1.0 does not"),
        ("MIT", "Unlicense", "makers are named"),
        ("BSD-Protection", "MIT", "not known to allow another"),
        ("MITNFA", "MIT", "not known to allow another"),
        ("CC-BY-SA-4.0", "CC-BY-SA-3.0", "share alike"),
        ("GPL-2.0-only", "GPL-3.0-only", "share alike"),
        ("Sleepycat", "MIT", "not known to allow another"),
        (None, "MIT", "one under no licence .*Ask its authors"),
    ],
)
def test_what_the_parent_forbids_is_refused_with_the_reason(parent, chosen, words):
    with pytest.raises(ConfigError, match=words):
        check_licence(parent, chosen)


@given(st.sampled_from(KNOWN), st.sampled_from(KNOWN))
def test_share_alike_and_non_commercial_never_become_permissive(parent, chosen):
    permissive = chosen in {"MIT", "Apache-2.0", "CC0-1.0", "CC-BY-4.0"}
    if permissive and ("-SA-" in parent or "-NC-" in parent or "-ND-" in parent):
        with pytest.raises(ConfigError):
            check_licence(parent, chosen)
