"""What does pretraining buy for a number of strokes? Every start on the same strokes, scored on other images."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from s2d_zoo.data.atomic import write_json
from s2d_zoo.data.scores import Score
from s2d_zoo.errors import ConfigError
from s2d_zoo.pipeline.cell_files import alone_in, checkpoint_folder, read_finished, told_if_damaged
from s2d_zoo.pipeline.transfer_cells import Cell, CellResult, Models, cell_facts, load_models, plan_cells
from s2d_zoo.pipeline.transfer_inputs import TransferData, TransferInputs, TransferSettings, read_transfer_data
from s2d_zoo.pipeline.transfer_training import CellJob, Painting, run_cell

FORMAT: Final = "s2d-zoo/transfer-cell"
#: of how cells are computed, too
FORMAT_VERSION: Final = 3
_CELLS, _CHECKPOINTS = "cells", "checkpoints"


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferResult:
    """All cells, finished."""

    inputs: TransferInputs
    settings: TransferSettings
    data: TransferData
    models: Models
    cells: tuple[CellResult, ...]
    n_kept: int  #: of the cells, those that an earlier run had finished


def evaluate_transfer(
    inputs: TransferInputs,
    settings: TransferSettings,
    output: Path,
    *,
    overwrite: bool = False,
    tell: Callable[[str], None] | None = None,
    progress: bool = True,
) -> TransferResult:
    """Train and score every start at every budget and seed; go on where an earlier run was interrupted.

    Each finished cell is a file in ``output/cells`` and is not run again; within a cell the training goes on from its
    checkpoint in ``output/checkpoints``, which is removed when the cell is finished. Test images are for scores only.

    Args:
        inputs: images with ground truth, and the pretrained models.
        settings: what is compared.
        output: folder.
        overwrite: run cells again that were made from other files, settings or versions.
        tell: called when a cell is begun, with a line that says which of how many; not for those that are finished.
        progress: show progress bars on stderr.

    Raises:
        UserInputError: for anything wrong with images, ground truth or strokes (also AxesError, ConfigError).
        ConfigError: if a finished cell was made from something else, saying what, unless it is to be overwritten; or
            another process is at work in the folder.
        PackageError: if a pretrained model cannot be used.
    """
    if output.exists() and not output.is_dir():
        msg = f"{output} is a file; the output must be a folder."
        raise ConfigError(msg)
    data = read_transfer_data(inputs)
    models = load_models(inputs, settings, data)
    cells = plan_cells(settings, with_base=models.base is not None)
    facts = {cell: cell_facts(cell, data, settings, models) for cell in cells}
    with alone_in(output):
        kept = {cell: _read_cell(_file(output, cell), cell, facts[cell], overwrite=overwrite) for cell in cells}
        results: list[CellResult] = []
        painting: Painting | None = None
        for number, cell in enumerate(cells, start=1):
            finished = kept[cell]
            if finished is None:
                painting = _paint(cell, painting, data, settings)
                if tell is not None:
                    tell(f"cell {number} of {len(cells)}: {cell}")
                job = CellJob(
                    cell=cell,
                    data=data,
                    settings=settings,
                    models=models,
                    painting=painting,
                    folder=checkpoint_folder(output / _CHECKPOINTS / cell.name, facts[cell]),
                    progress=cell.start if progress else None,
                )
                finished = run_cell(job)
                write_json(_file(output, cell), _to_json(finished, facts[cell]))
                shutil.rmtree(job.folder, ignore_errors=True)
            results.append(finished)
        if (output / _CHECKPOINTS).is_dir() and not any((output / _CHECKPOINTS).iterdir()):
            (output / _CHECKPOINTS).rmdir()
    n_kept = sum(one is not None for one in kept.values())
    return TransferResult(
        inputs=inputs, settings=settings, data=data, models=models, cells=tuple(results), n_kept=n_kept
    )


def _paint(cell: Cell, last: Painting | None, data: TransferData, settings: TransferSettings) -> Painting | None:
    """The strokes of a cell: those of the cell before it, where only the start differs."""
    if not cell.budget:
        return None
    if last is not None and (last.budget, last.seed) == (cell.budget, cell.seed):
        return last
    return Painting(data, settings, budget=cell.budget, seed=cell.seed)


def _file(output: Path, cell: Cell) -> Path:
    return output / _CELLS / f"{cell.name}.json"


def _to_json(result: CellResult, facts: dict[str, Any]) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "start": result.cell.start,
        "budget": result.cell.budget,
        "seed": result.cell.seed,
        "scores": {method: asdict(score) for method, score in result.scores.items()},
        "strokes": result.strokes,
        "painted_px": result.painted_px,
        "strokes_sha256": result.strokes_sha256,
        "seconds": result.seconds,
        "made_with": dict(result.made_with),
        "facts": facts,
    }


def _read_cell(path: Path, cell: Cell, facts: dict[str, Any], *, overwrite: bool) -> CellResult | None:
    found = read_finished(
        path, facts, form=FORMAT, version=FORMAT_VERSION, what="a transfer curve", overwrite=overwrite
    )
    if found is None:
        return None
    with told_if_damaged(path):
        return CellResult(
            cell=cell,
            scores={method: Score(**score) for method, score in found["scores"].items()},
            strokes=_numbers(found["strokes"]),
            painted_px=_numbers(found["painted_px"]),
            strokes_sha256=tuple(str(one) for one in found["strokes_sha256"]),
            seconds=float(found["seconds"]),
            made_with=dict(found["made_with"]),
        )


def _numbers(values: Sequence[Any]) -> tuple[int, ...]:
    return tuple(int(one) for one in values)
