"""A package that is a model, read once: as it is written, and as bioimageio.spec understands it."""

from dataclasses import dataclass

from bioimageio.spec.model.v0_5 import ModelDescr

from s2d_zoo.data.package_contents import PackageContents


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedModel:
    """An opened package whose description is valid."""

    contents: PackageContents  #: as it is written: what a program with a reader of its own sees
    description: ModelDescr  #: in the latest format, defaults filled in, files not looked at

    @property
    def formats(self) -> tuple[str, ...]:
        """Weights formats that are there, by name."""
        return tuple(sorted(name for name, entry in self.contents.rdf["weights"].items() if entry is not None))
