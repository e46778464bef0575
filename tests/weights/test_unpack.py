"""Archives unpack below their folder, or not at all."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from effkeras.support.errors import EffkerasError
from effkeras.weights.unpack import unpack


def archive(path: Path, *members: tuple[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, kind in members:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            member.size = 3 if kind == tarfile.REGTYPE else 0
            tar.addfile(member, io.BytesIO(b"abc"))
    return path


def test_files_and_folders(tmp_path):
    path = archive(tmp_path / "a.tgz", ("d0", tarfile.DIRTYPE), ("d0/model.index", tarfile.REGTYPE))
    unpack(path, tmp_path / "out")
    assert (tmp_path / "out" / "d0" / "model.index").read_bytes() == b"abc"


@pytest.mark.parametrize(
    ("name", "kind", "why"),
    [
        ("../evil", tarfile.REGTYPE, "leads out"),
        ("/tmp/evil", tarfile.REGTYPE, "leads out"),
        ("a/../../evil", tarfile.REGTYPE, "leads out"),
        ("link", tarfile.SYMTYPE, "link or a device"),
        ("link", tarfile.LNKTYPE, "link or a device"),
        ("device", tarfile.CHRTYPE, "link or a device"),
        ("pipe", tarfile.FIFOTYPE, "link or a device"),
    ],
)
def test_hostile_members_are_refused_and_nothing_is_unpacked(name, kind, why, tmp_path):
    path = archive(tmp_path / "a.tgz", ("good", tarfile.REGTYPE), (name, kind))
    with pytest.raises(EffkerasError, match=f"not safe to unpack.*{why}"):
        unpack(path, tmp_path / "out")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.tgz"]


@pytest.mark.parametrize("keep", [0, 20, 0.3, 0.6])
def test_a_cut_archive_is_refused(keep, tmp_path):
    path = archive(tmp_path / "a.tgz", *((f"f{index}", tarfile.REGTYPE) for index in range(40)))
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if isinstance(keep, float) else keep])
    with pytest.raises(EffkerasError, match="cannot unpack"):
        unpack(path, tmp_path / "out")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.tgz"]
