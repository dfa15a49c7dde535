"""Curated planes, the material plane, pictures, fingerprints and statistics."""

from __future__ import annotations

import io

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scan_files import picture

from scanloop.errors import DataWrong, WrongArguments
from scanloop.scans.fingerprint import distances, hamming, perceptual_hash
from scanloop.scans.material import air_level, attenuation, material, transmission
from scanloop.scans.planes import FULL_SCALE, encode_planes, read_planes, scale_to_16_bits
from scanloop.scans.statistics import plane_statistics
from scanloop.scans.views import PALETTES, encode_png, grey, pseudo_colour

planes_of_any_size = st.tuples(st.integers(1, 40), st.integers(1, 40)).flatmap(
    lambda shape: hnp.arrays(np.uint16, shape, elements=st.integers(0, 65535))
)


@given(planes_of_any_size)
@settings(max_examples=60, deadline=None)
def test_planes_come_back_exactly_and_the_bytes_are_the_same_every_time(pixels: np.ndarray) -> None:
    planes = {"high": pixels, "low": pixels // 2, "zeff": np.flip(pixels)}
    content = encode_planes(planes)
    assert content == encode_planes(planes)
    found = read_planes(content)
    assert list(found) == ["high", "low", "zeff"]
    assert all(np.array_equal(found[name], planes[name]) for name in planes)
    assert all(pixels.dtype == np.uint16 for pixels in found.values())


def test_a_planes_file_is_a_plain_zstd_tiff_with_named_pages() -> None:
    planes = picture(height_px=300, width_px=500)
    with tifffile.TiffFile(io.BytesIO(encode_planes(planes, {"high": 14, "low": 16}))) as tiff:
        assert [page.description for page in tiff.pages] == ["high", "low"]
        assert {page.compression.name for page in tiff.pages} == {"ZSTD"}
        assert [page.tags[281].value for page in tiff.pages] == [2**14 - 1, 2**16 - 1]
        assert not any(page.tags.get(305) or page.tags.get(306) for page in tiff.pages)


def test_compression_keeps_line_scanner_pictures_well_below_their_size() -> None:
    smooth = np.linspace(20000, 60000, 512 * 512).reshape(512, 512).astype(np.uint16)
    noisy = (smooth + np.random.default_rng(0).normal(0, 30, smooth.shape)).astype(np.uint16)
    assert len(encode_planes({"high": noisy})) < 0.75 * noisy.nbytes


def test_planes_are_chosen_by_name_and_material_is_computed() -> None:
    planes = picture()
    content = encode_planes(planes)
    assert list(read_planes(content, ["low", "high"])) == ["low", "high"]
    found = read_planes(content, ["material"])
    assert list(found) == ["material"]
    assert np.array_equal(found["material"], material(planes["high"], planes["low"]))


def test_planes_are_read_from_a_file_too(tmp_path: pytest.TempPathFactory) -> None:
    path = tmp_path / "planes.tiff"  # type: ignore[operator]
    path.write_bytes(encode_planes(picture()))
    assert read_planes(path, ["high"])["high"].shape == (40, 32)


@pytest.mark.parametrize("bits", [1, 8, 12, 14, 16])
def test_full_scale_is_the_same_for_every_depth_unless_native_values_are_asked_for(bits: int) -> None:
    full = (1 << bits) - 1
    native = np.array([[0, full // 2, full]], np.uint16)
    content = encode_planes({"high": native}, {"high": bits})
    scaled = read_planes(content)["high"]
    assert scaled[0, 0] == 0
    assert scaled[0, 2] == FULL_SCALE
    assert abs(int(scaled[0, 1]) - full // 2 / full * FULL_SCALE) <= 1
    assert np.array_equal(read_planes(content, is_native=True)["high"], native)
    scaled = scale_to_16_bits(np.arange(full + 1, dtype=np.uint16), bits)
    assert np.all(np.diff(scaled.astype(int)) > 0)


@pytest.mark.parametrize(
    ("content", "names", "message"),
    [
        (b"", None, "Expected a planes TIFF"),
        (b"II*\0\x08\0\0\0", None, "Expected a planes TIFF"),
        (encode_planes({"high": np.zeros((4, 4), np.uint16)}).replace(b"(\xb5/\xfd", b"(\xb5/\xfe"), None, "Expected a planes TIFF"),
        (encode_planes({"high": np.zeros((4, 4), np.uint16)}), ["low"], "Expected the planes low, found only high"),
        (encode_planes({"high": np.zeros((4, 4), np.uint16)}), ["material"], "Expected the planes material"),
    ],
    ids=range(5),
)
def test_what_is_no_planes_file_or_lacks_a_plane_is_refused(content: bytes, names: list[str] | None, message: str) -> None:
    with pytest.raises(DataWrong, match=message):
        read_planes(content, names)


counts = st.integers(1, 65535)


@given(counts, counts, counts)
@settings(max_examples=300, deadline=None)
def test_material_never_falls_when_low_energy_transmission_falls(high: int, low: int, other_low: int) -> None:
    pair = material(np.full((1, 2), high, np.uint16), np.array([[low, other_low]], np.uint16), air=(65535, 65535))
    darker, brighter = (0, 1) if low <= other_low else (1, 0)
    assert pair[0, darker] >= pair[0, brighter]


@given(st.floats(0.2, 2.5), st.floats(1.0, 2.4))
@settings(max_examples=200, deadline=None)
def test_material_hardly_depends_on_thickness(thickness: float, ratio: float) -> None:
    thick = np.array([[thickness, 2 * thickness]])
    high, low = (np.clip(65535 * np.exp(-factor * thick), 66, 65535).astype(np.uint16) for factor in (1.0, ratio))
    if low.min() > 500:
        one, two = (int(value) for value in material(high, low, air=(65535, 65535))[0])
        assert abs(one - two) < 0.25 * max(one, two) + 400


def test_material_is_zero_in_air_whatever_the_gain() -> None:
    generator = np.random.default_rng(0)
    air = [np.clip(gain * 65535 + generator.normal(0, 60, (64, 64)), 0, 65535).astype(np.uint16) for gain in (0.97, 0.93)]
    assert np.median(material(*air)) < 800


def test_steel_is_above_water_is_above_air() -> None:
    high, low = (np.full((20, 60), 64000, np.uint16) for _ in range(2))
    high[5:15, 20:40], low[5:15, 20:40] = 64000 * np.exp(-0.8), 64000 * np.exp(-0.8 * 1.2)
    high[5:15, 40:], low[5:15, 40:] = 64000 * np.exp(-0.8), 64000 * np.exp(-0.8 * 1.8)
    found = material(high, low)
    air, water, steel = (int(np.median(found[5:15, at : at + 20])) for at in (0, 20, 40))
    assert air < water < steel
    picture_rgb = pseudo_colour(high, low).astype(int)
    red, _, blue = (picture_rgb[10, 30, channel] for channel in range(3))
    assert red > blue + 60
    red, _, blue = (picture_rgb[10, 50, channel] for channel in range(3))
    assert blue > red + 60
    assert picture_rgb[10, 5].min() > 245


def test_transmission_and_attenuation_keep_to_their_ranges() -> None:
    pixels = np.array([[0, 1, 32768, 65535]], np.uint16)
    assert transmission(pixels).min() == pytest.approx(1e-3)
    assert attenuation(pixels).max() == pytest.approx(6.9078, abs=1e-3)
    assert attenuation(pixels)[0, 3] == 0
    assert air_level(pixels) == pytest.approx(65535)
    assert air_level(np.zeros((8, 8), np.uint16)) == 0.75 * 65535


@pytest.mark.parametrize("palette", PALETTES)
def test_pictures_go_from_white_to_black_in_every_palette(palette: str) -> None:
    ramp = np.linspace(65535, 0, 256).astype(np.uint16)[None].repeat(8, 0)
    rgb = pseudo_colour(ramp, ramp, palette)
    assert (rgb.shape, rgb.dtype) == ((8, 256, 3), np.uint8)
    assert rgb[0, 0].min() >= 250
    assert rgb[0, -1].max() == 0
    brightness = rgb[4].astype(int).sum(axis=1)
    assert np.all(np.diff(brightness) <= 3)


def test_an_unknown_palette_is_named_with_the_known_ones() -> None:
    with pytest.raises(WrongArguments, match="standard, warm, cool"):
        pseudo_colour(*picture().values(), "mauve")


def test_pictures_survive_png() -> None:
    import imagecodecs

    planes = picture()
    for pixels in (grey(planes["high"]), pseudo_colour(planes["high"], planes["low"]), planes["high"]):
        assert np.array_equal(imagecodecs.png_decode(encode_png(pixels)), pixels)


@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (200, 3), (31, 33), (640, 480)])
def test_every_size_has_a_fingerprint_of_16_hex_digits(shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 65536, shape).astype(np.uint16)
    found = perceptual_hash(pixels)
    assert len(found) == 16
    int(found, 16)
    assert perceptual_hash(pixels) == found


@given(st.integers(0, 10_000), st.floats(0.7, 1.0), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_the_same_bag_scanned_again_looks_the_same_and_another_does_not(seed: int, gain: float, noise: int) -> None:
    pixels = picture(seed, 200, 240)["high"]
    again = np.clip(pixels * gain + np.random.default_rng(noise).normal(0, 250, pixels.shape), 0, 65535).astype(np.uint16)
    assert hamming(perceptual_hash(pixels), perceptual_hash(again)) <= 6
    other = picture(seed + 1, 200, 240)["high"]
    assert hamming(perceptual_hash(pixels), perceptual_hash(other)) > 6


hashes = st.integers(0, 2**64 - 1).map(lambda number: f"{number:016x}")


@given(hashes, st.lists(hashes, max_size=20))
def test_distances_are_the_hamming_distance_to_each(one: str, others: list[str]) -> None:
    assert distances(one, others).tolist() == [hamming(one, other) for other in others]
    assert hamming(one, one) == 0


def test_statistics_of_a_good_picture() -> None:
    found = plane_statistics(picture(3, 120, 160)["high"])
    assert found.air_mean == pytest.approx(0.97, abs=0.01)
    assert 0.2 < found.air_share < 0.9
    assert (found.saturated_share, found.dark_share, found.dead_rows, found.dead_columns, found.is_blank) == (0, 0, 0, 0, False)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda pixels: pixels.__setitem__(slice(10, 12), 0), {"dead_rows": 2, "dead_columns": 0}),
        (lambda pixels: pixels.__setitem__((slice(None), slice(4, 9)), 20000), {"dead_rows": 0, "dead_columns": 5}),
        (lambda pixels: pixels.__setitem__((slice(None), slice(4, 9)), 65535), {"dead_columns": 0, "saturated_share": 5 / 160}),
        (lambda pixels: pixels.__setitem__(slice(60, 120), 0), {"dark_share": 0.5}),
        (lambda pixels: pixels.fill(61000), {"is_blank": True, "dead_rows": 0, "dead_columns": 0}),
    ],
    ids=["dead rows", "stuck columns", "saturated columns", "no beam", "blank"],
)
def test_statistics_find_what_is_broken(change: object, expected: dict[str, float]) -> None:
    pixels = picture(3, 120, 160)["high"]
    change(pixels)  # type: ignore[operator]
    found = plane_statistics(pixels).as_dict()
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-3)
