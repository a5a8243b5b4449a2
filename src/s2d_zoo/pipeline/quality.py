"""What an enhancer is worth on data that it never saw, against honest rivals: every target, every cell."""

import logging
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from filelock import FileLock, Timeout

from s2d_zoo.architectures.unet import UNet
from s2d_zoo.data.atomic import write_json
from s2d_zoo.data.network import load_network, save_network
from s2d_zoo.errors import ConfigError, S2DZooError
from s2d_zoo.pipeline.cell_files import checkpoint_folder, read_finished
from s2d_zoo.pipeline.quality_cells import (
    Cell,
    CellResult,
    Measured,
    cell_facts,
    cell_to_json,
    direct_facts,
    load_measured,
    plan_cells,
    read_cell,
    seeded_direct,
)
from s2d_zoo.pipeline.quality_direct import train_direct
from s2d_zoo.pipeline.quality_inputs import (
    QualitySettings,
    QualitySources,
    QualityTarget,
    TargetData,
    choose_targets,
    read_target,
)
from s2d_zoo.pipeline.quality_runs import CellJob, run_cell
from s2d_zoo.pipeline.record import Clock
from s2d_zoo.trainer import check_network_size

_log = logging.getLogger(__name__)

DIRECT_FORMAT: Final = "s2d-zoo/direct-network"
DIRECT_FORMAT_VERSION: Final = 2
_CELLS, _CHECKPOINTS, _DIRECT = "cells", "checkpoints", "direct"
#: seconds to wait for another process; filelock takes -1 for no end
_NONE, _ENDLESS = 0, -1


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetResult:
    """All cells of a target, finished."""

    data: TargetData
    cells: tuple[CellResult, ...]
    is_source: bool  #: the enhancer was trained on its train split


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityResult:
    """All targets that are finished."""

    measured: Measured
    sources: tuple[str, ...]  #: names of the datasets that the enhancer was trained on
    doubt: str  #: that its package says something else, in words; empty if it does not
    settings: QualitySettings
    targets: tuple[TargetResult, ...]
    missing: tuple[str, ...]  #: names of the other targets of the recipe
    n_kept: int  #: of the cells of the chosen targets, those that an earlier run had finished


def evaluate_quality(
    package: Path,
    targets: Sequence[QualityTarget],
    sources: QualitySources,
    settings: QualitySettings,
    output: Path,
    *,
    chosen: Sequence[str] = (),
    data_dir: Path | None = None,
    overwrite: bool = False,
    tell: Callable[[str], None] | None = None,
    progress: bool = True,
) -> QualityResult:
    """Measure an enhancer on targets; go on where an earlier run was interrupted.

    Each finished cell is a file in ``output/cells/TARGET`` and is not run again; within a cell a training goes on from
    its checkpoint. The direct networks are trained once for all targets, in ``output/direct``. Of a target, methods
    learn from the train split; images of the test split are for scores only. Several processes may work in one folder:
    each takes cells that no other one is at, and waits for those in the end, or for a direct network that one trains.

    Args:
        package: of the enhancer.
        targets: all of the recipe.
        sources: what the enhancer was trained on.
        settings: what is compared.
        output: folder.
        chosen: names of the targets to measure; all where none is named. Others are part of the result if they are
            finished.
        data_dir: folder with local copies of the datasets.
        overwrite: run cells again that were made from other files, settings or versions.
        tell: called when a cell is begun, with a line that says which of how many; not for those that are finished.
        progress: show progress bars on stderr.

    Raises:
        UserInputError: for anything wrong with datasets (also AxesError, ConfigError).
        ConfigError: if a finished cell was made from something else, saying what, unless it is to be overwritten.
        PackageError: if the enhancer cannot be used.
        DownloadError: if a dataset cannot be had.
    """
    if output.exists() and not output.is_dir():
        msg = f"{output} is a file; the output must be a folder."
        raise ConfigError(msg)
    named = choose_targets(targets, chosen)
    measured = load_measured(package)
    for patches in (settings.segmentor.patches, settings.direct.patches):
        check_network_size(measured.size["features"], measured.size["depth"], patch=patches.size)
    run = _Run(
        sources=sources,
        settings=settings,
        measured=measured,
        output=output,
        overwrite=overwrite,
        tell=tell or (lambda _: None),
        progress=progress,
    )
    read = {target: read_target(target, settings, data_dir=data_dir) for target in named}
    kept = {target: run.finished(data) for target, data in read.items()}
    finished = {target: run.measure(read[target], kept[target]) for target in named}
    for target in targets:
        if target not in finished and (output / _CELLS / target.name).is_dir():
            try:
                found = run.complete(read_target(target, settings, data_dir=data_dir))
            except S2DZooError as error:  # of a target that was not asked for: what was measured is reported
                _log.warning("%s is left out of the report: %s", target.name, error)
                continue
            finished |= {target: found} if found else {}
    return QualityResult(
        measured=measured,
        sources=sources.names,
        doubt=sources.doubt,
        settings=settings,
        targets=tuple(finished[target] for target in targets if target in finished),
        missing=tuple(target.name for target in targets if target not in finished),
        n_kept=sum(one is not None for found in kept.values() for one in found.values()),
    )


class _Run:
    """One call of `evaluate_quality`."""

    def __init__(
        self,
        *,
        sources: QualitySources,
        settings: QualitySettings,
        measured: Measured,
        output: Path,
        overwrite: bool,
        tell: Callable[[str], None],
        progress: bool,
    ) -> None:
        self._sources, self._settings, self._measured = sources, settings, measured
        self._output, self._overwrite, self._tell, self._progress = output, overwrite, tell, progress
        self._direct_facts = {
            seed: direct_facts(sources, settings, measured, seed) for seed in range(settings.n_training_seeds)
        }
        self._direct: dict[int, tuple[UNet, float]] = {}

    def finished(self, data: TargetData) -> dict[Cell, CellResult | None]:
        """The cells that are there; None for those to be run."""
        return {
            cell: read_cell(self._file(data, cell), cell, self._facts(data, cell), overwrite=self._overwrite)
            for cell in plan_cells(self._settings, data.target)
        }

    def complete(self, data: TargetData) -> TargetResult | None:
        """A target of which all cells are there and fit; None where they do not, or another process is at it."""
        try:
            cells = [
                read_cell(self._file(data, cell), cell, self._facts(data, cell))
                for cell in plan_cells(self._settings, data.target)
            ]
        except ConfigError:
            return None
        there = tuple(one for one in cells if one is not None)
        return self._result(data, there) if len(there) == len(cells) else None

    def measure(self, data: TargetData, kept: dict[Cell, CellResult | None]) -> TargetResult:
        """All cells of a target, those run that are not there."""
        results = dict(kept)
        for patience in (_NONE, _ENDLESS):  # first those that no other process is at, then those that one was
            for number, cell in enumerate(kept, start=1):
                if results[cell] is None:
                    words = f"{data.target.name}, cell {number} of {len(kept)}: {cell}"
                    results[cell] = self._run_alone(data, cell, words, patience)
        with suppress(OSError):  # there is none, or another process is at further cells
            (self._output / _CHECKPOINTS / data.target.name).rmdir()
        return self._result(data, [one for one in results.values() if one is not None])

    def _result(self, data: TargetData, cells: Sequence[CellResult]) -> TargetResult:
        is_source = data.target.dataset in self._sources.datasets
        return TargetResult(data=data, cells=tuple(cells), is_source=is_source)

    def _run_alone(self, data: TargetData, cell: Cell, words: str, patience: float) -> CellResult | None:
        """Run a cell, or read what another process has found meanwhile; None where one is at it still."""
        path = self._file(data, cell)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(path.with_suffix(".lock"), timeout=patience):
                found = read_cell(path, cell, self._facts(data, cell), overwrite=self._overwrite)
                if found is None:
                    self._tell(words)
                    found = self._run(data, cell)
                return found
        except Timeout:
            return None

    def _run(self, data: TargetData, cell: Cell) -> CellResult:
        facts = self._facts(data, cell)
        folder = checkpoint_folder(self._output / _CHECKPOINTS / data.target.name / cell.name, facts)
        job = CellJob(
            cell=cell,
            data=data,
            settings=self._settings,
            measured=self._measured,
            direct=partial(self._direct_network, cell.seed),
            folder=folder,
            progress=cell.kind if self._progress else None,
        )
        result = run_cell(job)
        write_json(self._file(data, cell), cell_to_json(result, facts))
        shutil.rmtree(folder, ignore_errors=True)
        return result

    def _direct_network(self, seed: int) -> tuple[UNet, float]:
        """The direct network of a seed, and the seconds of its training: from its file, or trained now."""
        if seed not in self._direct:
            folder = self._output / _DIRECT
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / f"seed{seed}.lock"):
                self._direct[seed] = self._read_direct(seed) or self._train_direct(seed)
        return self._direct[seed]

    def _read_direct(self, seed: int) -> tuple[UNet, float] | None:
        found = read_finished(
            self._output / _DIRECT / f"seed{seed}.json",
            self._direct_facts[seed],
            form=DIRECT_FORMAT,
            version=DIRECT_FORMAT_VERSION,
            what="a direct network",
            overwrite=self._overwrite,
        )
        return None if found is None else (load_network(self._weights(seed)), float(found["seconds"]))

    def _train_direct(self, seed: int) -> tuple[UNet, float]:
        facts = self._direct_facts[seed]
        folder = checkpoint_folder(self._output / _CHECKPOINTS / f"direct-seed{seed}", facts)
        clock = Clock(folder / "seconds.json")  # an interrupted training goes on counting
        with clock.stage("training"):
            model = train_direct(
                self._sources,
                self._measured,
                seeded_direct(self._settings, seed),
                folder=folder / "training",
                progress=f"direct network, seed {seed}" if self._progress else None,
            )
        (self._output / _DIRECT / f"seed{seed}.json").unlink(missing_ok=True)  # it speaks of the weights of before
        save_network(model, self._weights(seed))
        described: dict[str, Any] = {
            "format": DIRECT_FORMAT,
            "format_version": DIRECT_FORMAT_VERSION,
            "seconds": clock.seconds["training"],
            "facts": facts,
        }
        write_json(self._output / _DIRECT / f"seed{seed}.json", described)
        shutil.rmtree(folder, ignore_errors=True)
        return model, clock.seconds["training"]

    def _weights(self, seed: int) -> Path:
        return self._output / _DIRECT / f"seed{seed}.safetensors"

    def _file(self, data: TargetData, cell: Cell) -> Path:
        return self._output / _CELLS / data.target.name / f"{cell.name}.json"

    def _facts(self, data: TargetData, cell: Cell) -> dict[str, Any]:
        direct = self._direct_facts[cell.seed] if cell.kind == "direct" else {}
        return cell_facts(cell, data, self._settings, self._measured, direct)
