import json
import re

import numpy as np
import pytest
import torch
from torch import nn

from s2d_zoo.architectures.unet import UNet
from s2d_zoo.errors import PackageError
from s2d_zoo.validate.checks import ALL_CONSUMERS, Check, Consumer
from s2d_zoo.validate.tilers import AxisSizes
from s2d_zoo.validate.tiles import check_tiles

TILE_CHECKS = (Check.T01, Check.T02, Check.T03, Check.T04)
#: of the U-Net below: step 4, receptive radius 23
GOOD = AxisSizes(min_size=64, step=4, halo=24)


class Network:
    """A function or a module on arrays; counts what it is given."""

    def __init__(self, model):
        self.model = model
        self.shapes = []

    def __call__(self, values):
        assert values.dtype == np.float32
        assert values.flags.c_contiguous
        self.shapes.append(values.shape[2:])
        if not isinstance(self.model, nn.Module):
            return self.model(values)
        with torch.inference_mode():
            return self.model(torch.from_numpy(values)).numpy()


def make_unet(normalisation=nn.BatchNorm2d):
    """A U-Net with the statistics of a trained one, or with another normalisation."""
    torch.manual_seed(0)
    model = UNet(features=2, depth=2)
    for block in (*model.encoder, *model.decoder):
        for index, layer in enumerate(block):
            if isinstance(layer, nn.BatchNorm2d):
                layer.running_mean.normal_(0, 0.3)
                layer.running_var.uniform_(0.05, 0.5)
                if normalisation is not nn.BatchNorm2d:
                    block[index] = normalisation(layer.num_features)
    return model.eval()


def check(model, y=GOOD, x=None, channels=1, **format_of):
    test_input = np.random.default_rng(1).random((1, channels, 32, 32), dtype="float32")
    results = check_tiles({"y": y, "x": x or y}, test_input, Network(model), **format_of)
    return {result.check: result for result in results}


def statuses(results):
    return [results[check].status for check in TILE_CHECKS]


# ---- networks that are told apart


def test_a_unet_with_stored_statistics_and_a_sufficient_halo_runs_with_limits():
    results = check(make_unet())
    assert statuses(results) == ["passed", "limited", "limited", "limited"]
    for result in results.values():
        assert result.figures["inside"] <= 1e-6
    for program in (Check.T02, Check.T03, Check.T04):
        assert results[program].figures["phase"] > 1e-3
        assert re.search(r"differ by up to 0\.\d+ from .* not at multiples of 4 px", results[program].message)
    seams = results[Check.T04]
    assert seams.figures["seam"] > 0.05
    assert 4 < seams.figures["seam_width"] <= 23
    assert f"up to {seams.figures['seam_width']} px from the seams, which are 512 px apart" in seams.message


def test_a_network_without_pooling_has_seams_only():
    results = check(nn.Sequential(nn.Conv2d(1, 2, 5, padding=2), nn.Sigmoid(), nn.Conv2d(2, 1, 3, padding=1)))
    assert statuses(results) == ["passed", "passed", "passed", "limited"]
    assert results[Check.T04].figures["seam_width"] == 3
    assert "multiples" not in results[Check.T04].message


def test_qupath_has_no_seams_with_the_halo_of_format_0_4():
    results = check(make_unet(), qupath_reads_halo=True)
    assert statuses(results) == ["passed", "limited", "limited", "limited"]
    seams = results[Check.T04]
    assert "seam" not in seams.message
    assert "not at multiples of 4 px" in seams.message
    assert seams.figures["seam"] <= 1e-6
    assert seams.figures["tiles"] == 2


def test_qupath_differs_where_the_halo_of_format_0_4_is_too_small():
    results = check(make_unet(), AxisSizes(min_size=64, step=4, halo=8), qupath_reads_halo=True)
    assert results[Check.T04].status == "failed"


def test_a_network_that_looks_at_single_pixels_passes():
    results = check(lambda values: values.sum(axis=1, keepdims=True), channels=3)
    assert statuses(results) == ["passed"] * 4
    assert {result.figures["inside"] for result in results.values()} == {0}


@pytest.mark.parametrize("normalisation", [nn.InstanceNorm2d, lambda features: nn.GroupNorm(1, features)])
def test_a_network_that_normalises_by_the_tile_fails(normalisation):
    results = check(make_unet(normalisation))
    assert statuses(results) == ["failed"] * 4
    assert "normalisation depends on the tile" in results[Check.T01].message
    assert not any(result.hinders for result in results.values())


@pytest.mark.parametrize("halo", [0, 1, 8, 20])
def test_a_halo_that_is_smaller_than_the_receptive_radius_fails(halo):
    results = check(make_unet(), AxisSizes(min_size=64, step=4, halo=halo))
    assert statuses(results) == ["failed"] * 4
    assert "the halo is smaller than what the network looks at" in results[Check.T03].message


@pytest.mark.parametrize("axis", ["y", "x"])
def test_a_halo_that_is_too_small_along_one_axis_fails(axis):
    small = AxisSizes(min_size=64, step=4, halo=8)
    results = check(make_unet(), **{"y": GOOD, "x": GOOD, axis: small})
    assert statuses(results) == ["failed"] * 4


def test_axes_of_different_sizes_are_tiled_each_by_its_own():
    y, x = AxisSizes(min_size=80, step=8, halo=24), AxisSizes(min_size=128, step=4, halo=32)
    results = check(make_unet(), y, x)
    assert statuses(results) == ["passed", "limited", "limited", "limited"]
    assert results[Check.T01].figures["tile"] == [80, 128]
    assert results[Check.T04].figures["tile"] == [480, 512]


@pytest.mark.parametrize(
    ("factor", "noise", "status"), [(1, 1e-4, "failed"), (1000, 1e-3, "passed"), (1000, 0.1, "failed")]
)
def test_the_tolerance_grows_with_values_beyond_one(factor, noise, status):
    def network(values):
        return values * np.float32(factor) + np.float32(noise) * (values.shape[2:] == (64, 64))

    assert check(network)[Check.T01].status == status


# ---- whom it concerns, what it costs


def test_each_result_concerns_its_programs_and_has_figures_in_plain_json():
    results = check(make_unet())
    assert [results[check].consumers for check in TILE_CHECKS] == [
        ALL_CONSUMERS,
        {Consumer.ilastik},
        {Consumer.deepimagej},
        {Consumer.qupath},
    ]
    for result in results.values():
        json.dumps(result.figures, allow_nan=False)


def test_the_network_is_run_on_two_million_pixels_of_allowed_sizes():
    network = Network(lambda values: values)
    sizes = AxisSizes(min_size=256, step=8, halo=96)
    test_input = np.random.default_rng(1).random((1, 1, 64, 64), dtype="float32")
    list(check_tiles({"y": sizes, "x": sizes}, test_input, network))
    assert len(network.shapes) <= 11
    assert sum(height * width for height, width in network.shapes) < 2.1e6
    assert all(size >= 256 and size % 8 == 0 for shape in network.shapes for size in shape)


# ---- what cannot be compared


def only_for(condition, problem):
    """Single pixels, but for shapes on which something goes wrong."""
    return lambda values: problem(values) if condition(values.shape[2:]) else values


def test_nan_on_a_tile_fails():
    results = check(only_for(lambda shape: shape == (512, 512), lambda values: values * np.float32("nan")))
    assert statuses(results) == ["passed", "failed", "passed", "failed"]
    assert "finite values for an input of 512 x 512 px, found 262144 that are not" in results[Check.T02].message
    assert results[Check.T02].hinders


def test_nan_on_the_whole_image_fails_and_leaves_nothing_to_compare_with():
    results = check(only_for(lambda shape: shape[1] > 512, lambda values: values * np.float32("nan")))
    assert statuses(results) == ["failed", "limited", "limited", "limited"]
    assert "that are not" in results[Check.T01].message


def refuse(values):
    msg = "it crashed"
    raise PackageError(msg)


@pytest.mark.parametrize(
    ("problem", "reason"),
    [(refuse, "it crashed"), (lambda values: values[..., 1:, :], "of 512 x 512 px, as the input, found 511 x 512 px")],
)
def test_a_tile_that_cannot_be_run_fails_for_the_programs_that_make_it(problem, reason):
    results = check(only_for(lambda shape: shape == (512, 512), problem))
    assert statuses(results) == ["passed", "failed", "passed", "failed"]
    assert reason in results[Check.T02].message
    assert results[Check.T02].hinders


def test_a_smallest_tile_that_cannot_be_run_fails_for_all():
    results = check(only_for(lambda shape: shape == (64, 64), refuse))
    assert results[Check.T01].status == "failed"
    assert results[Check.T01].hinders
    assert "a tile of 64 x 64 px: it crashed" in results[Check.T01].message


def test_where_the_whole_image_cannot_be_run_each_program_tries_a_tile():
    network = Network(only_for(lambda shape: shape[1] > 512, refuse))
    test_input = np.random.default_rng(1).random((1, 1, 32, 32), dtype="float32")
    first, *others = check_tiles({"y": GOOD, "x": GOOD}, test_input, network)
    assert (first.status, first.hinders) == ("failed", False)
    assert re.search(r"a whole image of \d+ x \d+ px, to compare with: it crashed", first.message)
    assert [result.status for result in others] == ["limited"] * 3
    assert others[0].message.startswith("ilastik's tiles run, but were not compared: a whole image of ")
    assert len(network.shapes) == 4


def test_a_network_that_fails_above_300_px_is_refused_by_those_that_feed_more():
    results = check(only_for(lambda shape: max(shape) > 300, refuse))
    assert statuses(results)[0] == "failed"
    assert not results[Check.T01].hinders
    for program in (Check.T02, Check.T04):
        assert (results[program].status, results[program].hinders) == ("failed", True)
        assert "gets no output: a tile of 512 x 512 px: it crashed" in results[program].message


def test_a_later_part_of_the_whole_image_that_cannot_be_run_leaves_nothing_to_compare_with():
    large = []

    def network(values):
        if values.shape[3] <= 512:
            return values
        large.append(values)
        return refuse(values) if len(large) > 1 else values

    assert statuses(check(network)) == ["passed", "limited", "limited", "limited"]
    assert len(large) == 2


def test_an_output_that_does_not_vary_tells_nothing():
    results = check(lambda values: values * 0 + 1)
    assert statuses(results) == ["skipped"] * 4
    assert "the output varies by 0.0e+00 only" in results[Check.T01].message


def test_a_halo_that_leaves_nothing_fails():
    results = check(lambda values: values, AxisSizes(min_size=64, step=4, halo=32))
    assert statuses(results) == ["failed", "skipped", "skipped", "skipped"]
    assert "nothing is left of the smallest tile along y, 64 px" in results[Check.T01].message
    assert not results[Check.T01].hinders


def test_sizes_that_deepimagej_cannot_make_fail_for_it_alone():
    results = check(lambda values: values, AxisSizes(min_size=72, step=16, halo=8))
    assert statuses(results) == ["passed", "passed", "failed", "passed"]
    assert "72 + n * 16 px" in results[Check.T03].message
    assert results[Check.T03].hinders


def test_volumes_are_skipped():
    sizes = {"z": GOOD, "y": GOOD, "x": GOOD}
    results = list(check_tiles(sizes, np.zeros((1, 1, 8, 32, 32), "float32"), refuse))
    assert [(result.check, result.status) for result in results] == [(check, "skipped") for check in TILE_CHECKS]
    assert [result.consumers for result in results][1:] == [
        {Consumer.ilastik},
        {Consumer.deepimagej},
        {Consumer.qupath},
    ]
