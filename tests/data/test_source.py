"""A folder, a zip and a tar of the same images are the same source; broken ones are refused."""

import io
import os
import shutil
import tarfile
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from image_trees import refused, tar_of, write_image, write_tree, zip_of

from leanvit.data import listing
from leanvit.data.course import course
from leanvit.data.folder import folder, images_of_classes
from leanvit.data.listing import open_source, read_image
from leanvit.data.source import SYSTEM, is_hidden, is_image
from leanvit.data.unlabelled import find_images
from leanvit.errors import LeanvitError

ARCHIVES = ["a.zip", "a.tar", "a.tar.gz", "a.tgz", "a.tar.xz", "a.tar.bz2"]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "tree", {"b": 2, "a/deep": 1, "a": 3}, size=4)


def pack(folder: Path, path: Path) -> Path:
    return zip_of(folder, path) if path.suffix == ".zip" else tar_of(folder, path)


@pytest.mark.parametrize("name", ["", *ARCHIVES])
def test_folder_and_archives_list_and_read_alike(tree: Path, tmp_path: Path, name: str) -> None:
    source = open_source(pack(tree, tmp_path / name) if name else tree)
    classes = source.classes_below("")
    assert classes == {
        "a": ["a/0.png", "a/1.png", "a/2.png", "a/deep/0.png"],
        "b": ["b/0.png", "b/1.png"],
    }
    assert list(classes) == ["a", "b"]
    for image in [*classes["b"], *classes["a"]]:  # not the archive's order
        assert source.read(image) == (tree / image).read_bytes()


def test_classes_below_a_folder(tmp_path: Path) -> None:
    write_tree(tmp_path / "x/train", {"cat": 1})
    write_tree(tmp_path / "x/training", {"dog": 1})
    assert open_source(tmp_path).classes_below("x/train") == {"cat": ["x/train/cat/0.png"]}


def test_only_images_count(tree: Path) -> None:
    before = open_source(tree).files
    for name in ("@eaDir", "__MACOSX", "#recycle", ".hidden"):
        (tree / name).mkdir()
    (tree / "@eaDir" / "0.png").mkdir()
    write_image(tree / "a" / "@eaDir" / "0.png", 0)
    (tree / ".DS_Store").write_bytes(b"x")
    (tree / "notes.txt").write_text("no image")
    (tree / "a" / "Thumbs.db").write_bytes(b"x")
    write_image(tree / ".cache" / "0.png", 0)
    write_image(tree / "__MACOSX" / "a" / "0.png", 0)
    write_image(tree / "a" / "._0.png", 0)
    assert open_source(tree).files == before
    assert list(open_source(tree).classes_below("")) == ["a", "b"]
    write_image(tree / "b" / "UPPER.JPG", 0)
    assert "b/UPPER.JPG" in open_source(tree).files


@pytest.mark.parametrize("name", ["", "a.zip", "a.tar"])
def test_an_empty_class_folder_is_named(tree: Path, tmp_path: Path, name: str) -> None:
    (tree / "empty").mkdir()
    source = open_source(pack(tree, tmp_path / name) if name else tree)
    message = refused(source.classes_below, "")
    assert f"{source.path}/empty" in message and "remove" in message


def test_no_class_folder(tree: Path) -> None:
    message = refused(open_source(tree).classes_below, "train")
    assert f"{tree}/train/<class>/<image>" in message


def test_a_missing_source(tmp_path: Path) -> None:
    message = refused(open_source, tmp_path / "nowhere")
    assert str(tmp_path / "nowhere") in message and "data.source=" in message


def test_the_home_folder_is_found(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tree.parent))
    assert open_source(Path("~/tree")).path == tree


@pytest.mark.parametrize("content", [b"", b"not an archive at all", b"PK\3\4 nearly"])
def test_not_an_archive(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "images.zip"
    path.write_bytes(content)
    message = refused(open_source, path)
    assert str(path) in message and "copy it again" in message


@pytest.mark.parametrize("name", ARCHIVES)
def test_an_archive_cut_off_anywhere_is_refused(tree: Path, tmp_path: Path, name: str) -> None:
    whole = pack(tree, tmp_path / name)
    content = whole.read_bytes()
    listed = open_source(whole).files.keys()
    cut = tmp_path / f"cut-{name}"
    # every multiple of 512 too: there a tar's members begin, and downloads stop
    step = max(1, len(content) // 40)
    lengths = {*range(1, len(content), step), *range(512, len(content), 512)}
    for length in sorted(lengths):
        cut.write_bytes(content[:length])
        try:
            source = open_source(cut)
        except LeanvitError as error:
            assert str(cut) in str(error) and "\n" not in str(error)
            assert "copy it again" in str(error)
            continue
        # only bytes after the last image may be missing (a tar's padding)
        assert source.files.keys() == listed
        for image in listed:
            assert source.read(image) == (tree / image).read_bytes()


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz"])
def test_a_damaged_header_does_not_hide_the_rest(tree: Path, tmp_path: Path, name: str) -> None:
    path = pack(tree, tmp_path / name)
    content = bytearray(path.read_bytes())
    for place in range(len(content) // 4, len(content), len(content) // 9):
        damaged = bytearray(content)
        damaged[place] ^= 0x10
        path.write_bytes(damaged)
        try:
            found = len(open_source(path).files)
        except LeanvitError as error:
            assert "\n" not in str(error)
        else:
            assert found == 6


def test_the_fingerprint_follows_the_files(tree: Path) -> None:
    def fingerprint() -> str:
        source = open_source(tree)
        return source.fingerprint([n for names in source.classes_below("").values() for n in names])

    seen = [fingerprint()]
    assert fingerprint() == seen[0]
    write_image(tree / "b" / "2.png", 77)
    seen.append(fingerprint())
    write_image(tree / "b" / "2.png", 78)
    seen.append(fingerprint())
    (tree / "b" / "2.png").rename(tree / "b" / "3.png")
    seen.append(fingerprint())
    (tree / "a" / "0.png").unlink()
    seen.append(fingerprint())
    assert len(set(seen)) == len(seen)


@pytest.mark.parametrize("name", ["a.zip", "a.tar"])
def test_the_fingerprint_of_an_archive_follows_its_content(
    tree: Path, tmp_path: Path, name: str
) -> None:
    prints = []
    for seed in (1, 2):
        write_image(tree / "b" / "0.png", seed)
        source = open_source(pack(tree, tmp_path / f"{seed}-{name}"))
        prints.append(source.fingerprint(["b/0.png"]))
    assert prints[0] != prints[1]
    if name == "a.zip":  # its checksums do not depend on where and when it was copied
        copied = shutil.copyfile(tmp_path / "2-a.zip", tmp_path / "3.zip")
        assert open_source(Path(copied)).fingerprint(["b/0.png"]) == prints[1]


def test_what_is_left_out_is_counted(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    open_source(tree).classes_below("")
    assert capsys.readouterr().err == ""
    for name in ("notes.txt", "a/1.txt", "a/2.TXT", "b/README", "b/deep/x.npy"):
        (tree / name).parent.mkdir(exist_ok=True)
        (tree / name).write_text("no image")
    write_image(tree / "loose.png", 0)
    for hidden in (".DS_Store", "a/Thumbs.db", "a/._0.png"):
        (tree / hidden).write_text("nothing to tell of")
    open_source(tree).classes_below("")
    assert capsys.readouterr().err == (
        f"left out of {tree}: 1 of the images, in no class folder; 3 .txt, 1 without an ending, "
        "1 .npy, no images by their names\n"
    )
    (tree / "c").mkdir()
    (tree / "c" / "0.txt").write_text("no image")
    assert "c holds no image that Pillow reads, but 1 .txt: " in refused(
        open_source(tree).classes_below, ""
    )


@pytest.mark.parametrize("name", ["", "a.zip", "a.tar"])
def test_a_class_that_is_hidden_is_told(
    name: str, tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for hidden in (".net", ".net/.deeper", "a/.cache", "@eaDir", "__MACOSX/.x"):
        write_image(tree / hidden / "0.png", 0)
    (tree / "a" / ".0.png").write_text("of no folder")
    source = open_source(pack(tree, tmp_path / name) if name else tree)
    assert list(source.classes_below("")) == ["a", "b"]
    assert "hidden folders (2): .net, a/.cache\n" in capsys.readouterr().err


def test_other_endings_are_images_too(tree: Path) -> None:
    for name in ("0.pgm", "0.gif", "0.jfif", "0.pnm", "0.avif", "0.JP2"):
        (tree / "b" / name).write_bytes(b"x")
    assert len(open_source(tree).classes_below("")["b"]) == 8


def test_links_are_followed(tree: Path, tmp_path: Path) -> None:
    linked = tmp_path / "linked"
    (linked / "test").mkdir(parents=True)
    (linked / "train").symlink_to(tree)
    (linked / "test" / "a").symlink_to(tree / "a")
    (linked / "test" / "b").mkdir()
    (linked / "test" / "b" / "one.png").symlink_to(tree / "b" / "0.png")
    (linked / "test" / "b" / "more").symlink_to(tree / "a" / "deep")
    source = open_source(linked)
    assert {k: len(v) for k, v in source.classes_below("train").items()} == {"a": 4, "b": 2}
    assert source.classes_below("test")["b"] == ["test/b/more/0.png", "test/b/one.png"]
    assert source.read("test/a/0.png") == (tree / "a" / "0.png").read_bytes()


def test_links_in_a_circle_end(tree: Path) -> None:
    expected = open_source(tree).classes_below("")
    (tree / "a" / "up").symlink_to(tree)
    (tree / "a" / "here").symlink_to(".")
    (tree / "b" / "itself").symlink_to("itself")
    assert open_source(tree).classes_below("") == expected


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_folder_that_cannot_be_listed_is_named(tree: Path) -> None:
    (tree / "a").chmod(0)
    assert f"{tree}/a cannot be listed" in refused(open_source, tree)
    (tree / "a").chmod(0o755)


def test_a_pipe_is_no_image_and_no_source(tree: Path) -> None:
    os.mkfifo(tree / "a" / "pipe.png")
    with pytest.raises(OSError, match="no regular file"):
        open_source(tree).read("a/pipe.png")
    (tree / "a" / "device.png").symlink_to("/dev/zero")
    with pytest.raises(OSError, match="no regular file"):
        open_source(tree).read("a/device.png")
    assert "nor a regular file" in refused(open_source, tree / "a" / "pipe.png")


def test_links_in_a_tar_are_followed(tree: Path, tmp_path: Path) -> None:
    os.link(tree / "a" / "0.png", tree / "b" / "hard.png")
    (tree / "b" / "soft.png").symlink_to("../a/1.png")
    os.mkfifo(tree / "b" / "pipe.png")
    (tree / "b" / "loop.png").symlink_to("nowhere.png")
    source = open_source(tar_of(tree, tmp_path / "a.tar"))
    assert source.read("b/hard.png") == (tree / "a" / "0.png").read_bytes()
    assert source.read("b/soft.png") == (tree / "a" / "1.png").read_bytes()
    for name, error in (("pipe", OSError), ("loop", KeyError)):
        with pytest.raises(error):
            source.read(f"b/{name}.png")


@pytest.mark.parametrize("name", ["", "a.zip", "a.tar.gz"])
def test_a_file_too_large_for_an_image_is_not_read(
    tree: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("leanvit.files.MAX_BYTES", 10_000)
    path, size = tmp_path / name, 10_001
    if name == "a.zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a/large.png", bytes(size))
        monkeypatch.setattr(zipfile.ZipFile, "read", None)
    elif name == "a.tar.gz":
        with tarfile.open(path, "w:gz") as archive:
            member = tarfile.TarInfo("a/large.png")
            member.size = size
            archive.addfile(member, io.BytesIO(bytes(size)))
        monkeypatch.setattr(tarfile.TarFile, "extractfile", None)
    else:
        path = tree
        (tree / "a" / "large.png").write_bytes(bytes(size))
        monkeypatch.setattr(Path, "read_bytes", None)
    with pytest.raises(OSError, match="too large for an image file"):
        open_source(path).read("a/large.png")


def test_a_link_to_nowhere_is_listed(tree: Path) -> None:
    """So that decoding names it; it must not end the listing."""
    (tree / "a" / "gone.png").symlink_to(tree / "nowhere.png")
    source = open_source(tree)
    assert "a/gone.png" in source.files
    with pytest.raises(FileNotFoundError):
        source.read("a/gone.png")


@pytest.mark.parametrize("name", ["a.zip", "a.tar"])
def test_an_archive_of_windows_is_read(tree: Path, tmp_path: Path, name: str) -> None:
    """Its names have a backslash between their parts, also those of folders."""
    content = {f"a\\{i}.png": (tree / "a" / f"{i}.png").read_bytes() for i in range(3)}
    if name == "a.zip":
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            for each, data in {"a\\": b"", **content}.items():
                archive.writestr(each, data)
    else:
        with tarfile.open(tmp_path / name, "w") as archive:
            for each, data in content.items():
                member = tarfile.TarInfo(each)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    source = open_source(tmp_path / name)
    assert source.classes_below("") == {"a": ["a/0.png", "a/1.png", "a/2.png"]}
    assert source.read("a/2.png") == content["a\\2.png"]


@pytest.mark.parametrize("form", ["./{}", "/{}", "train//{}"])
def test_an_archive_names_its_files_as_a_path_does(tmp_path: Path, form: str) -> None:
    """So that ``a.zip/train/cat/1.png`` is found again."""
    begins = "" if form.startswith("train") else "train/"
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in ("cat/", "cat/1.png", "dog/2.png"):
            archive.writestr(form.format(begins + name), b"png")
    found = open_source(tmp_path / "a.zip").classes_below("train")
    assert found == {"cat": ["train/cat/1.png"], "dog": ["train/dog/2.png"]}
    paths, _ = find_images([str(tmp_path / "a.zip")])
    assert [read_image(path) for path in paths] == [b"png"] * 2


def test_images_of_two_zips_in_turn_list_each_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "ab":
        with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as archive:
            archive.writestr("1.png", b"png")
    listed = []

    def noted(path: Path) -> Any:
        listed.append(path)
        return open_source(path)

    monkeypatch.setattr(listing, "open_source", noted)
    for name in "abab":
        assert read_image(tmp_path / f"{name}.zip" / "1.png") == b"png"
    assert len(listed) == 2


def test_an_archive_of_both_signs_is_told_so(tree: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(tree / "a" / "0.png", "data/train\\a\\0.png")
    message = refused(open_source(tmp_path / "a.zip").classes_below, "data/train")
    assert "its names have \\ as well as /" in message


def test_another_tree_is_refused_before_it_is_walked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ``/`` and ``/proc`` are, for every source of folders; also where a part is not listed."""
    deep = tmp_path / "tree" / "usr" / "share" / "deep"
    (deep / "deeper").mkdir(parents=True)
    (tmp_path / "tree" / "etc").mkdir()
    real, listed = os.scandir, []

    def scandir(folder: Path) -> Any:
        listed.append(folder)
        if Path(folder).name == "etc":
            raise PermissionError(13, "Permission denied", str(folder))
        return real(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    root = str(tmp_path / "tree")
    place = str(tmp_path / "data"), 8
    for message in (
        refused(folder, root, *place),
        refused(course, root, *place),
        refused(images_of_classes, root, ("ant", "bee"), *place),
    ):
        assert root in message
    assert deep.parent not in listed and deep not in listed


def test_names_are_taken_apart_as_pathlib_does() -> None:
    """The literal twin, which takes a second for the 40,000 names of an archive."""
    parts = ["a", ".a", "..", ".", "__MACOSX", "a.png", ".png", "a.b.PNG", "a.", "..png", "a.txt"]
    for name in (f"{one}/{two}/{three}" for one in parts for two in parts for three in parts):
        path = PurePosixPath(name)
        hidden = any(each.startswith(".") or each in SYSTEM for each in path.parts)
        assert is_hidden(name) == hidden, name
        if path.name == name.rpartition("/")[2]:  # a file is not called "."
            assert is_image(name) == (path.suffix.lower() == ".png" and not hidden), name
