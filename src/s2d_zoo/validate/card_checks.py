"""C01, C02 and L01: what the package says about itself in words.

No program refuses a package for its words, so that these results change no verdict. Packages of s2d-zoo are held
to more than others: they promise it.
"""

import re
from collections.abc import Iterator
from typing import Final

from bioimageio.spec.utils import get_spdx_licenses
from pydantic import ValidationError

from s2d_zoo.contract import RFContract
from s2d_zoo.data.package_contents import is_remote
from s2d_zoo.data.written_description import listed, local_file, mappings, own_config, source_of, value_at
from s2d_zoo.types import ENHANCER_TAG
from s2d_zoo.validate.checks import Check, Consumer
from s2d_zoo.validate.findings import Finding, fails, limits, to_results
from s2d_zoo.validate.opened_model import OpenedModel
from s2d_zoo.validate.report import CheckResult

#: a card is read up to here
_MAX_BYTES: Final = 1024**2
#: the heading that bioimage.io looks for
_VALIDATION: Final = re.compile(r"#.*[vV]alidation")
_LIMITS: Final = re.compile(r"^#+ .*limit", re.IGNORECASE | re.MULTILINE)
_PROGRAMS: Final = ("ilastik", "Fiji", "QuPath", "Python", "command line")


def check_contract(model: OpenedModel) -> Iterator[CheckResult]:
    """C01: the RF contract under ``config.s2d_zoo.rf_contract``, of packages that ilastik takes for enhancers."""
    rdf = model.contents.rdf
    tagged = ENHANCER_TAG in listed(rdf.get("tags"))
    own = own_config(rdf)
    written = value_at(own, "rf_contract")
    if tagged and value_at(own, "kind") == "fused":
        # the tag is all that ilastik's Trainable Domain Adaptation asks for
        message = (
            f"tagged {ENHANCER_TAG!r}, but it takes raw images: ilastik would feed it probabilities; remove the tag"
        )
        yield from to_results(Check.C01, [fails(message, Consumer.ilastik)], good="")
    elif not tagged and written is None:
        yield CheckResult(check=Check.C01, status="skipped", message="not an enhancer")
    else:
        yield from to_results(Check.C01, _contract_faults(written, model, tagged=tagged), good=_roles(written))


def _contract_faults(written: object, model: OpenedModel, *, tagged: bool) -> list[Finding]:
    if not tagged:
        return [fails(f"there is an RF contract, but no tag {ENHANCER_TAG!r}: ilastik would not list this enhancer")]
    if written is None:
        message = f"tagged {ENHANCER_TAG!r}, but there is no RF contract under config.s2d_zoo.rf_contract"
        if own_config(model.contents.rdf) is not None:
            return [fails(message)]
        return [limits(f"{message}: which forests it takes is not known to programs; ask its authors")]
    try:
        contract = RFContract.model_validate(written)
    except ValidationError as error:
        entries = (f"{'.'.join(map(str, entry['loc']))}: {entry['msg']}" for entry in error.errors())
        return [fails(f"invalid RF contract: {'; '.join(entries)}")]
    axes = model.description.inputs[0].axes
    ndim = sum(axis.type == "space" for axis in axes)
    channels = sum(int(axis.size) for axis in axes if axis.type == "channel")
    if (ndim, channels) != (contract.ndim, len(contract.channels)):
        message = (
            f"the RF contract speaks of {len(contract.channels)} channel(s) in {contract.ndim}D, "
            f"the input has {channels} in {ndim}D"
        )
        return [fails(message)]
    return []


def _roles(written: object) -> str:
    try:
        return f"takes the roles {', '.join(RFContract.model_validate(written).roles)}"
    except ValidationError:
        return ""


def check_card(model: OpenedModel) -> Iterator[CheckResult]:
    """C02: the file that the description names as its documentation."""
    contents = model.contents
    name = source_of(contents.rdf.get("documentation"))
    own = own_config(contents.rdf) is not None
    say = fails if own else limits
    if name is None:
        yield from to_results(Check.C02, [say("there is no model card; write README.md")], good="")
        return
    path = local_file(contents, name)
    if path is None:
        reason = "is on the network" if is_remote(name) else "is not in the package"
        yield from to_results(Check.C02, [say(f"the model card {name} {reason}")], good="")
        return
    with path.open("rb") as file:
        text = file.read(_MAX_BYTES).decode("utf-8", errors="replace")
    lacking = [] if _VALIDATION.search(text) else ["a section 'Validation': how good the model is, and on what"]
    if own:
        missing = [program for program in _PROGRAMS if program.lower() not in text.lower()]
        lacking += [f"how to run it in {', '.join(missing)}"] if missing else []
        lacking += [] if _LIMITS.search(text) else ["a section 'Limits'"]
    findings = [say(f"the model card {name} lacks {' and '.join(lacking)}")] if lacking else []
    yield from to_results(Check.C02, findings, good=name)


def check_attribution(model: OpenedModel) -> Iterator[CheckResult]:
    """L01: who made it, on which terms, and what to cite."""
    rdf = model.contents.rdf
    known = {entry["licenseId"] for entry in get_spdx_licenses()["licenses"]}
    cited = [entry for entry in mappings(rdf.get("cite")) if entry.get("doi") or entry.get("url")]
    lacking = [
        words
        for missing, words in (
            (not mappings(rdf.get("authors")), "authors"),
            (
                str(rdf.get("license")) not in known,
                f"an SPDX licence (found {source_of(rdf.get('license')) or 'none'})",
            ),
            (not cited, "a citation with a DOI or an address"),
        )
        if missing
    ]
    findings = [limits(f"lacks {', '.join(lacking)}")] if lacking else []
    authors = ", ".join(str(author.get("name")) for author in mappings(rdf.get("authors")))
    yield from to_results(Check.L01, findings, good=f"{authors}; {rdf.get('license')}; {len(cited)} to cite")
