"""Weights that refer to another file are refused before a value of it reaches a model."""

from __future__ import annotations

import functools
import io
import re
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from support.tiny import tiny_classifier

from effkeras.building.models import build_spec
from effkeras.cli import main
from effkeras.support.errors import EffkerasError
from effkeras.weights import hdf5_safety
from effkeras.weights.hdf5_safety import check_file
from effkeras.weights.keras_files import load, load_weights_of, weights_of
from effkeras.weights.loading import load_weights

SECRET = 1234.5
MEMBER = "model.weights.h5"
Craft = Callable[[h5py.File, Path], None]


@functools.cache
def classifier() -> keras.Model:
    return build_spec(tiny_classifier())


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("good")
    files = {suffix: folder / f"model{suffix}" for suffix in (".keras", ".weights.h5")}
    classifier().save(files[".keras"])
    classifier().save_weights(files[".weights.h5"])
    return files


@pytest.fixture
def secret(tmp_path) -> Path:
    """A file of numbers, and beside it an HDF5 file that holds them as `data`, as large as any weight."""
    values = np.full(100_000, SECRET, np.float32)
    path = tmp_path / "secret"
    path.write_bytes(values.tobytes())
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["data"] = values
        file["vars/0"] = values
    return path


def first_array(file: h5py.File) -> h5py.Dataset:
    """The first array of a layer."""
    found: list[h5py.Dataset] = []
    file["layers"].visititems(lambda _, item: found.append(item) if isinstance(item, h5py.Dataset) else None)
    return found[0]


def external_storage(file: h5py.File, secret: Path) -> None:
    old = first_array(file)
    name, shape, dtype = old.name, old.shape, old.dtype
    del file[name]
    file.create_dataset(name, shape, dtype, external=[(str(secret), 0, h5py.h5f.UNLIMITED)])


def virtual_dataset(file: h5py.File, secret: Path) -> None:
    old = first_array(file)
    name, shape, dtype = old.name, old.shape, old.dtype
    flat = h5py.VirtualSource(f"{secret}.h5", "data", shape=(100_000,), dtype=dtype)
    layout = h5py.VirtualLayout((int(np.prod(shape)),), dtype)
    layout[:] = flat[: layout.shape[0]]
    del file[name]
    file.create_virtual_dataset(name, layout)


def link_to_an_array(file: h5py.File, secret: Path) -> None:
    name = first_array(file).name
    del file[name]
    file[name] = h5py.ExternalLink(f"{secret}.h5", "/data")


def link_to_a_group(file: h5py.File, secret: Path) -> None:
    name = first_array(file).parent.parent.name
    del file[name]
    file[name] = h5py.ExternalLink(f"{secret}.h5", "/")


def soft_link_through_a_link(file: h5py.File, secret: Path) -> None:
    name = first_array(file).name
    del file[name]
    file["elsewhere"] = h5py.ExternalLink(f"{secret}.h5", "/")
    file[name] = h5py.SoftLink("/elsewhere/data")


CRAFTS = [external_storage, virtual_dataset, link_to_an_array, link_to_a_group, soft_link_through_a_link]


def rewritten(good: Path, to: Path, craft: Craft, secret: Path, how: int = zipfile.ZIP_STORED) -> Path:
    """A copy of a good file whose weights were changed."""
    if good.suffix == ".h5":
        to.write_bytes(good.read_bytes())
        with h5py.File(to, "r+") as file:
            craft(file, secret)
        return to
    with zipfile.ZipFile(good) as archive, zipfile.ZipFile(to, "w", how) as out:
        for name in archive.namelist():
            content = io.BytesIO(archive.read(name))
            if name == MEMBER:
                with h5py.File(content, "r+") as file:
                    craft(file, secret)
            out.writestr(name, content.getvalue())
    return to


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(EffkerasError, match="not safe to read") as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("craft", CRAFTS)
@pytest.mark.parametrize("suffix", [".keras", ".weights.h5"])
def test_what_refers_to_another_file_is_refused(suffix, craft, good, secret, tmp_path):
    path = rewritten(good[suffix], tmp_path / f"bad{suffix}", craft, secret)
    model = classifier()
    before = model.get_weights()
    message = refused(lambda: load_weights(model, path))
    assert message.startswith(str(path))
    if suffix == ".keras":
        refused(lambda: load(path))
        refused(lambda: load_weights_of(model, path))
    after = model.get_weights()
    assert all(map(np.array_equal, before, after))
    assert not any((weight == SECRET).any() for weight in after)


def test_the_crafted_files_do_reach_the_other_file(good, secret, tmp_path):
    for craft in CRAFTS[:3]:
        path = rewritten(good[".weights.h5"], tmp_path / "bad.weights.h5", craft, secret)
        with h5py.File(path) as file:
            name = next(one for one in _arrays(good[".weights.h5"]) if np.all(file[one][()] == SECRET))
        assert name


def _arrays(path: Path) -> list[str]:
    with h5py.File(path) as file:
        names: list[str] = []
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    return names


def test_a_whole_model_in_one_h5_file_is_looked_at_too(secret, tmp_path):
    path = tmp_path / "model.h5"
    with h5py.File(path, "w") as file:
        file["model_weights/dense"] = h5py.ExternalLink(f"{secret}.h5", "/")
    refused(lambda: load(path))


def test_compressed_weights_are_looked_at_too(good, secret, tmp_path):
    how = zipfile.ZIP_DEFLATED
    path = rewritten(good[".keras"], tmp_path / "bad.keras", external_storage, secret, how)
    refused(lambda: load(path))
    path = rewritten(good[".keras"], tmp_path / "good.keras", lambda file, secret: None, secret, how)
    assert load(path).count_params() == classifier().count_params()
    path = rewritten(good[".keras"], tmp_path / "other.keras", external_storage, secret, zipfile.ZIP_BZIP2)
    assert "compression" in refused(lambda: load(path))


def test_every_hdf5_file_in_the_archive_is_looked_at(good, secret, tmp_path):
    path = rewritten(good[".keras"], tmp_path / "bad.keras", lambda file, secret: None, secret)
    asset = io.BytesIO()
    with h5py.File(asset, "w") as file:
        file["far"] = h5py.ExternalLink(f"{secret}.h5", "/")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("assets/table.h5", asset.getvalue())
    refused(lambda: load(path))


def test_weights_that_expand_beyond_all_measure_are_refused_unread(tmp_path, monkeypatch):
    monkeypatch.setattr(hdf5_safety, "LARGEST_MEMBER", 2**20)
    path = tmp_path / "bomb.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(MEMBER, bytes(2**20 + 1))
    assert "expands from" in refused(lambda: load(path))


@pytest.mark.parametrize("member", ["config.json", "metadata.json", "assets/words.txt"])
def test_text_that_expands_beyond_all_measure_is_refused_unread(member, good, tmp_path):
    """2 GiB of JSON in a small file took 4.8 GB."""
    path = rewritten(good[".keras"], tmp_path / "bomb.keras", lambda file, secret: None, tmp_path)
    with (
        zipfile.ZipFile(path) as source,
        zipfile.ZipFile(tmp_path / "b.keras", "w", zipfile.ZIP_DEFLATED) as out,
    ):
        for name in source.namelist():
            if name != member:
                out.writestr(name, source.read(name))
        out.writestr(member, b" " * (2**24 + 1))
    assert "expands from" in refused(lambda: load(tmp_path / "b.keras"))


def test_deep_json_is_one_line(good, tmp_path):
    """Keras reads it with a stack for deep networks, which 20,000 brackets would overflow."""
    with zipfile.ZipFile(tmp_path / "deep.keras", "w") as out:
        out.writestr("config.json", "[" * 15_000)
    with pytest.raises(EffkerasError, match="corrupt or not a Keras 3 model"):
        load(tmp_path / "deep.keras")


def test_weights_that_numpy_would_read_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.keras", "w") as out:
        out.writestr("config.json", "{}")
        out.writestr("model.weights.npz", b"PK")
    assert "model.weights.npz" in refused(lambda: load(tmp_path / "a.keras"))


def declared(file: h5py.File, secret: Path) -> None:
    """A shape of 40 GB without a value."""
    name = first_array(file).name
    del file[name]
    file.create_dataset(name, (100_000, 100_000), np.float32)


def declared_in_chunks(file: h5py.File, secret: Path) -> None:
    name = first_array(file).name
    del file[name]
    file.create_dataset(name, (100_000, 100_000), np.float32, chunks=(10, 10), compression="gzip")


def expanding_chunk(file: h5py.File, secret: Path) -> None:
    """A chunk of 400 bytes that unpacks to 100 MB; HDF5 unpacks all of it."""
    name = first_array(file).name
    del file[name]
    made = file.create_dataset(name, (10, 10), np.float32, chunks=(10, 10), compression="gzip")
    made.id.write_direct_chunk((0, 0), zlib.compress(bytes(10**8), 9))


def foreign_filter(file: h5py.File, secret: Path) -> None:
    """HDF5 would look for a library of that filter in a folder of the system."""
    name = first_array(file).name
    del file[name]
    made = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    made.set_chunk((10, 10))
    made.set_filter(32000, h5py.h5z.FLAG_OPTIONAL, ())
    space = h5py.h5s.create_simple((10, 10))
    h5py.h5d.create(file.id, name.encode(), h5py.h5t.NATIVE_FLOAT, space, made)


def objects(file: h5py.File, secret: Path) -> None:
    name = first_array(file).name
    del file[name]
    file.create_dataset(name, (3,), h5py.string_dtype())


@pytest.mark.parametrize("craft", [declared, declared_in_chunks, expanding_chunk, foreign_filter, objects])
@pytest.mark.parametrize("suffix", [".keras", ".weights.h5"])
def test_arrays_that_declare_more_than_the_file_holds_are_refused(suffix, craft, good, tmp_path):
    path = rewritten(good[suffix], tmp_path / f"bad{suffix}", craft, tmp_path)
    words = r"declares 40,000,000,000 bytes|expands beyond|never writes|holds no numbers"
    assert re.search(words, refused(lambda: load_weights(classifier(), path)))


def test_compressed_arrays_are_read(good, tmp_path):
    def packed(file: h5py.File, secret: Path) -> None:
        old = first_array(file)
        name, values = old.name, old[()]
        del file[name]
        file.create_dataset(name, data=values, compression="gzip", shuffle=True, fletcher32=True)

    model = classifier()
    load_weights(model, rewritten(good[".weights.h5"], tmp_path / "packed.weights.h5", packed, tmp_path))


def test_a_model_larger_than_its_weights_is_refused_before_it_takes_memory(tmp_path):
    """The configuration declares 40 GB of weights, of which the file holds none."""
    model = keras.Sequential([keras.Input((7,)), keras.layers.Dense(5, use_bias=False)])
    model.save(tmp_path / "a.keras")
    with zipfile.ZipFile(tmp_path / "a.keras") as source, zipfile.ZipFile(tmp_path / "b.keras", "w") as out:
        for name in source.namelist():
            content = source.read(name)
            if name == "config.json":
                content = content.replace(b'"units": 5', b'"units": 10000000000')
            out.writestr(name, content)
    assert "more weights than the file holds" in refused(lambda: load(tmp_path / "b.keras"))


@pytest.mark.filterwarnings("ignore:Skipping nested container:UserWarning")
@pytest.mark.parametrize("craft", CRAFTS)
def test_keras_itself_refuses_references_too(craft, good, secret, tmp_path):
    """We ask for a version that does: a reader that we forgot would then be safe."""
    path = rewritten(good[".weights.h5"], tmp_path / "bad.weights.h5", craft, secret)
    with pytest.raises(ValueError, match=r"Not allowed|Layer"):
        classifier().load_weights(path)
    assert not any((weight == SECRET).any() for weight in classifier().get_weights())


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_no_code_of_a_file_runs(suffix, tmp_path):
    """A Lambda layer is code."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Lambda(lambda x: x)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save(tmp_path / f"a{suffix}")
    with pytest.raises(EffkerasError, match=r"is corrupt or not a Keras 3 model: .*([Ll]ambda|code)"):
        load(tmp_path / f"a{suffix}")


def test_links_within_the_file_are_fine_and_cycles_end(good, secret, tmp_path):
    def linked(file: h5py.File, secret: Path) -> None:
        file["again"] = file["layers"]
        file["layers/root"] = file["/"]  # a cycle of hard links
        file["round"] = h5py.SoftLink("/round")
        file["nowhere"] = h5py.SoftLink("/no/such/place")
        file["alias"] = h5py.SoftLink("/layers")

    for suffix, path in good.items():
        check_file(rewritten(path, tmp_path / f"linked{suffix}", linked, secret))
    assert load(tmp_path / "linked.keras").count_params() == classifier().count_params()


def test_deep_groups_need_no_deep_stack(tmp_path, secret):
    path = tmp_path / "deep.h5"
    with h5py.File(path, "w") as file:
        group = file
        for _ in range(3000):
            group = group.create_group("g")
        group["far"] = h5py.ExternalLink(f"{secret}.h5", "/")
    assert "/g/g is" not in refused(lambda: check_file(path))


def values(model: keras.Model) -> list[np.ndarray]:
    return [variable.numpy() for _, variable in weights_of(model)]


@pytest.mark.parametrize(
    ("read", "suffix"), [(load_weights, ".weights.h5"), (load_weights, ".keras"), (load_weights_of, ".keras")]
)
def test_good_files_load(read, suffix, good):
    model = classifier()
    wanted = values(model)
    for _, variable in weights_of(model):
        variable.assign(np.zeros(variable.shape))
    read(model, good[suffix])
    assert all(map(np.array_equal, wanted, values(model)))
    assert all(map(np.array_equal, wanted, values(load(good[".keras"]))))


def test_weights_of_another_model_are_refused(good, tmp_path):
    keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).save(tmp_path / "other.keras")
    with pytest.raises(EffkerasError, match=r"other\.keras is corrupt"):
        load_weights_of(classifier(), tmp_path / "other.keras")


def test_the_command_says_so_in_a_line(good, secret, tmp_path, capsys):
    path = rewritten(good[".weights.h5"], tmp_path / "bad.weights.h5", external_storage, secret)
    out = tmp_path / "made.keras"
    assert main(["import", str(path), "efficientnet-digits", "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {path} is not safe to read: /layers/")
    assert error.count("\n") == 1
    assert not out.exists()
